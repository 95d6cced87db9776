"""How fast a step is against what the devices could do, and traces to see why."""

from __future__ import annotations

import dataclasses

import jax
from etils import epath
from jax.sharding import Mesh

from vdiffsr_jax.training.flop_count import count_flops
from vdiffsr_jax.training.hardware import Chip, chip_of
from vdiffsr_jax.training.optim import Flat


@dataclasses.dataclass(frozen=True)
class Speed:
    """`flops`: of one step, a device's share. `chip`: None where its peak is not known."""

    flops: float
    chip: Chip | None

    @classmethod
    def of(cls, program: jax.stages.Traced, mesh: Mesh) -> Speed:
        """Of a traced step."""
        return cls(count_flops(program.jaxpr) / mesh.size, chip_of(mesh.devices.flat[0].device_kind))

    def at(self, seconds: float) -> dict[str, float]:
        """`tflops_per_device` and, where the peak is known, `mfu` (0..1), of a step that takes so long.

        Recomputation under remat counts as work here, so it is utilisation of the hardware, not of the model.
        """
        rate = self.flops / seconds
        return {"tflops_per_device": rate / 1e12} | ({"mfu": rate / self.chip.flops} if self.chip else {})


class Trace:
    """Writes what happens in steps first..last to `directory`, one file per process."""

    def __init__(self, directory: epath.Path, steps: tuple[int, int] | None):
        self.directory = directory
        self.first, self.last = steps or (0, 0)
        self.running = False

    def before(self, step: int) -> None:
        """Begin if this step is the first."""
        if step == self.first:
            jax.profiler.start_trace(str(self.directory))
            self.running = True

    def after(self, step: int, metrics: Flat) -> None:
        """End if this step was the last, once its numbers are there."""
        if self.running and step == self.last:
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()
            self.running = False
