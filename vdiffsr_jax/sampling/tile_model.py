"""A model in memory, working on batches of tiles: one compiled function per (steps, sampler, shape)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array, Float32, Int32

from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.ops.noise import field_key
from vdiffsr_jax.runtime import host_memory
from vdiffsr_jax.sampling.tile_program import tile_program

SAMPLERS = ("ancestral", "deterministic")


def tile_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """One axis, `tiles`, over the given devices of this process."""
    return Mesh(np.asarray(devices), ("tiles",), axis_types=(AxisType.Auto,))


def step_choices(config: VDiffSRConfig) -> tuple[int, ...]:
    """Numbers of steps a model can take: one, four (respaced if it has more), all of its schedule."""
    total = config.schedule.num_steps
    return tuple(sorted({n for n in (1, 4, total) if n <= total}))


class TileModel:
    """LR tiles and their places -> HR tiles, with parameters on every device of the mesh.

    A model with two ends stands at one fidelity, first at its own, and goes to another with `at`.
    """

    def __init__(
        self, config: VDiffSRConfig, items: Mapping[str, Params], *, mesh: Mesh, dtype: DTypeLike = jnp.float32
    ) -> None:
        self.config, self.mesh = config, mesh
        self.assembled = assemble(dataclasses.replace(config, sharp=None), dtype=dtype)
        self._programs: dict[Hashable, jax.stages.Compiled] = {}
        # What one thread starts on a CPU runs in order, what two start runs at once: no core waits between two layers.
        self._starters = itertools.cycle([ThreadPoolExecutor(1, "start") for _ in range(2)])
        self.replace(items)

    def replace(self, items: Mapping[str, Params]) -> None:
        """Work with other parameters of the same model; nothing is compiled anew."""
        self._ends = items if self.config.sharp else {}  # both stay in memory, beside what lies between them
        self._stand(items, None)

    def at(self, share: float | None) -> Self:
        """This model, at this fidelity from now on; None: the one that the checkpoint says."""
        if self._share != self._own(share):
            self._stand(self._ends, share)
        return self

    def _own(self, share: float | None) -> float | None:
        return self.config.sharp.fidelity if share is None and self.config.sharp else share

    def _stand(self, items: Mapping[str, Params], share: float | None) -> None:
        self._share, params = self._own(share), {}
        items = fidelity.at(items, self.config, share)[0]
        for name, network in self.assembled.networks.items():
            network.check(items[name], name)
            params[name] = network.as_computed(items[name])
        self.params: dict[str, Params] = jax.device_put(params, NamedSharding(self.mesh, P()))

    def launch(
        self,
        lr: Float32[np.ndarray, "b t t 3"],
        origins: Int32[np.ndarray, "b 2"],
        *,
        prior_lr: Float32[np.ndarray, "b t t 3"] | None,
        seed: int,
        steps: int,
        method: str,
    ) -> Float32[Array, "b {self.config.scale}*t {self.config.scale}*t 3"]:
        """Start one batch, a multiple of the mesh's devices; the result is fetched by whoever reads it.

        Args: lr: in [-1, 1], as is what returns. origins: each tile's top and left in its photo. prior_lr: the tiles
            whose prior is taken; None: their own. seed: of the noise field. method: one of SAMPLERS.
        Raises: jax.errors.JaxRuntimeError with RESOURCE_EXHAUSTED, here or when fetched, if a device is out of memory.
        """
        split, whole = NamedSharding(self.mesh, P("tiles")), NamedSharding(self.mesh, P())
        tiles = jax.device_put((lr, prior_lr, origins), split)
        args = (self.params, *tiles, jax.device_put(field_key(seed), whole))
        key = (steps, method, lr.shape)
        if key not in self._programs:
            program = tile_program(self.assembled, self.mesh, steps=steps, method=method)
            self._programs[key] = program.lower(*args).compile()
            host_memory.release_unused()
        hr: jax.Array = next(self._starters).submit(self._programs[key], *args).result()
        return hr
