"""The whole model on a batch of tiles: one compiled function per (steps, sampler, shape), shared by local devices."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vdiffsr_jax import host_memory
from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.diffusion import sampler, schedule
from vdiffsr_jax.models import registry
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.ops import resize

SAMPLERS = ("ancestral", "deterministic")


def tile_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """One axis, `tiles`, over the given devices of this process."""
    return Mesh(np.asarray(devices), ("tiles",), axis_types=(AxisType.Auto,))


def step_choices(config: VDiffSRConfig) -> tuple[int, ...]:
    """Numbers of steps a model can take: one, four (respaced if it has more), all of its schedule."""
    total = config.schedule.num_steps
    return tuple(sorted({n for n in (1, 4, total) if n <= total}))


class TileModel:
    """LR tiles and their noise -> HR tiles.

    On a CPU the tiles of a device are computed one after the other inside the compiled function: a batch there brings
    no speed, and so a tile's numbers cannot depend on its neighbours in the batch.
    """

    def __init__(
        self, config: VDiffSRConfig, items: Mapping[str, Params], *, mesh: Mesh, dtype: jnp.dtype = jnp.float32
    ) -> None:
        self.config, self.mesh = config, mesh
        self._networks = registry.networks("vdiffsr", config, dtype=dtype)
        for name, network in self._networks.items():
            network.check(items[name], name)
        self._params = jax.device_put(dict(items), NamedSharding(mesh, P()))
        self._on_cpu = mesh.devices.flat[0].platform == "cpu"
        self._programs: dict[Hashable, jax.stages.Compiled] = {}

    @property
    def num_devices(self) -> int:
        """Devices that share each batch; a batch must be a multiple of it."""
        return self.mesh.size

    @property
    def tiles_need_company(self) -> bool:
        """Whether every device needs two tiles: the control prior.mode=shuffled takes another tile's prior."""
        return self.config.prior is not None and self.config.prior.mode == "shuffled"

    def noise_fields(self, steps: int, method: str) -> int:
        """How many noise maps a tile needs: the start, and one for each ancestral step but the last."""
        return steps if method == "ancestral" else 1

    def launch(self, lr: np.ndarray, noise: np.ndarray, *, steps: int, method: str) -> jax.Array:
        """Start one batch; the result is fetched by whoever reads it.

        Args: lr: (b, t, t, 3) float32 in [-1, 1]. noise: (b, noise_fields, t, t, c). method: one of SAMPLERS.
        Returns: (b, scale t, scale t, 3) float32 in [-1, 1].
        Raises: jax.errors.JaxRuntimeError with RESOURCE_EXHAUSTED, here or when fetched, if a device is out of memory.
        """
        args = (self._params, *jax.device_put((lr, noise), NamedSharding(self.mesh, P("tiles"))))
        key = (steps, method, lr.shape)
        if key not in self._programs:
            self._programs[key] = self._jitted(steps, method).lower(*args).compile()
            host_memory.give_back()
        return self._programs[key](*args)

    def _jitted(self, steps: int, method: str) -> jax.stages.Wrapped:
        def device_batch(params: dict[str, Params], lr: jax.Array, noise: jax.Array) -> jax.Array:
            upscale = functools.partial(self._upscale, params, steps=steps, method=method)
            if not self._on_cpu or self.tiles_need_company:
                return upscale(lr, noise)
            return jax.lax.map(lambda tile: upscale(tile[0][None], tile[1][None])[0], (lr, noise))

        shared = jax.shard_map(
            device_batch, mesh=self.mesh, in_specs=(P(), P("tiles"), P("tiles")), out_specs=P("tiles"), check_vma=False
        )
        return jax.jit(shared)

    def _upscale(
        self, params: dict[str, Params], lr: jax.Array, noise: jax.Array, *, steps: int, method: str
    ) -> jax.Array:
        """x4 bicubic, first stage, prior once per tile, diffusion, quantised decode."""
        first_stage, denoiser = self._networks["first_stage"], self._networks["denoiser"]
        size = lr.shape[1] * self.config.scale
        window = resize.bicubic(lr, (size, size))
        z_y = first_stage.apply(params["first_stage"], window, method="encode").astype(jnp.float32)
        cache = None
        if self.config.prior is not None:
            pyramid = self._networks["pvar"].apply(params["pvar"], window)
            cache = denoiser.apply(params["denoiser"], pyramid, method="encode_prior")

        def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
            return denoiser.apply(params["denoiser"], x, t, lr, cache)

        noise = jnp.moveaxis(noise, 1, 0)
        total = self.config.schedule.num_steps
        steps_of = schedule.make(self.config.schedule, None if steps in (1, total) else steps)
        if steps == 1:
            z_0 = sampler.sample_one_step(denoise, steps_of, z_y, noise[0])
        elif method == "deterministic":
            z_0 = sampler.sample_deterministic(denoise, steps_of, z_y, noise[0])
        else:
            unused = jnp.zeros_like(noise[:1])  # the step to t = 0 adds none
            z_0 = sampler.sample_ancestral(denoise, steps_of, z_y, noise[0], jnp.concatenate([noise[1:], unused]))
        hr = first_stage.apply(params["first_stage"], z_0, method="decode")
        return jnp.clip(hr.astype(jnp.float32), -1, 1)
