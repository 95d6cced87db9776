"""How fast a step is against what the devices could do, by their vendors' data sheets, and traces to see why."""

from __future__ import annotations

import dataclasses

import jax
from etils import epath
from jax.sharding import Mesh

from vdiffsr_jax.training.flop_count import count_flops
from vdiffsr_jax.training.optim import Metrics


@dataclasses.dataclass(frozen=True)
class Chip:
    """`flops`: bfloat16 FLOP/s without sparsity. `memory`: bytes. `bandwidth`: of that memory, bytes/s."""

    name: str
    flops: float
    memory: float
    bandwidth: float


# Beginning of jax.Device.device_kind -> chip; the first that fits counts.
CHIPS = {
    "TPU v4": Chip("TPU v4", 275e12, 32 * 2**30, 1.2e12),
    "TPU v5 lite": Chip("TPU v5e", 197e12, 16 * 2**30, 0.82e12),
    "TPU v5": Chip("TPU v5p", 459e12, 95 * 2**30, 2.765e12),
    "TPU v6 lite": Chip("TPU v6e", 918e12, 32 * 2**30, 1.64e12),
    "NVIDIA A100-SXM4-40GB": Chip("A100 40 GB", 312e12, 40e9, 1.56e12),
    "NVIDIA A100-PCIE-40GB": Chip("A100 40 GB", 312e12, 40e9, 1.56e12),
    "NVIDIA A100": Chip("A100", 312e12, 80e9, 2.0e12),
    "NVIDIA H100 PCIe": Chip("H100 PCIe", 756e12, 80e9, 2.0e12),
    "NVIDIA H100 NVL": Chip("H100 NVL", 835e12, 94e9, 3.9e12),
    "NVIDIA H100": Chip("H100", 989e12, 80e9, 3.35e12),
    "NVIDIA H200 NVL": Chip("H200 NVL", 835e12, 141e9, 4.8e12),
    "NVIDIA H200": Chip("H200", 989e12, 141e9, 4.8e12),
    "NVIDIA B200": Chip("B200", 2250e12, 180e9, 8.0e12),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of that name, None if it is not in the table (a CPU, for one)."""
    return next((chip for start, chip in CHIPS.items() if device_kind.startswith(start)), None)


@dataclasses.dataclass(frozen=True)
class Speed:
    """FLOPs of one step, a device's share: `done` with what is computed again for gradients, by remat or by attention,
    `needed` without. `chip`: None where its peak is not known.
    """

    done: float
    needed: float
    chip: Chip | None

    @classmethod
    def of(cls, program: jax.stages.Traced, once: jax.stages.Traced, mesh: Mesh) -> Speed:
        """Of a traced step and the same step that computes nothing again."""
        done, needed = (count_flops(traced.jaxpr) / mesh.size for traced in (program, once))
        return cls(done, needed, chip_of(mesh.devices.flat[0].device_kind))

    def at(self, seconds: float) -> dict[str, float]:
        """Of a step that takes so long: `tflops_per_device` done and, where the peak is known, as shares of it (0..1)
        `hfu`, utilisation of the hardware by all work done, and `mfu`, by the work that the model needs.
        """
        rates = {"tflops_per_device": self.done / seconds / 1e12}
        if self.chip:
            rates |= {"hfu": self.done / seconds / self.chip.flops, "mfu": self.needed / seconds / self.chip.flops}
        return rates


class Trace:
    """Writes what happens in steps first..last to `directory`, one file per process; closed sooner, what there is."""

    def __init__(self, directory: epath.Path, steps: tuple[int, int] | None):
        self.directory = directory
        self.first, self.last = steps or (0, 0)
        self.running = False

    def before(self, step: int) -> None:
        """Begin if this step is the first."""
        if step == self.first:
            jax.profiler.start_trace(str(self.directory))
            self.running = True

    def after(self, step: int, metrics: Metrics) -> None:
        """End if this step was the last, once its numbers are there."""
        if self.running and step == self.last:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """End, wherever the run stopped: the process has one profiler, and the next run may want it."""
        if self.running:
            self.running = False
            jax.profiler.stop_trace()
