"""The whole model as one function of a batch of tiles, shared by the devices of a mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from vdiffsr_jax.diffusion import sampler, schedule
from vdiffsr_jax.models.assembled import Assembled, Items
from vdiffsr_jax.ops import attention, noise

Tiles = Float[Array, "b t t 3"]


def noise_fields(steps: int, method: str) -> int:
    """How many noise maps a tile needs: the start, and one for each ancestral step but the last."""
    return steps if method == "ancestral" else 1


def tile_program(model: Assembled, mesh: Mesh, *, steps: int, method: str) -> jax.stages.Wrapped:
    """`run(params, lr, prior_lr, origins, key) -> hr`, arrays as in `upscale_tiles`, tiles split over the axis `tiles`.

    Every tile draws its noise from the photo's own field, see `ops.noise`.
    On a CPU the tiles of a device are computed one after the other inside the compiled function: a batch there brings
    no speed, and so a tile's numbers cannot depend on its neighbours in the batch.
    """
    platform = mesh.devices.flat[0].platform
    fields = noise_fields(steps, method)

    def device_batch(
        params: Items, lr: Tiles, prior_lr: Tiles | None, origins: Int32[Array, "b 2"], key: PRNGKeyArray
    ) -> jax.Array:
        def upscale(lr: Tiles, prior_lr: Tiles | None, origins: Int32[Array, "b 2"]) -> jax.Array:
            channels = model.config.first_stage.embed_dim
            eps = noise.noise_at(key, origins, fields=fields, side=lr.shape[1], channels=channels)
            return upscale_tiles(model, params, lr, prior_lr, eps, steps=steps, method=method)

        with attention.compiled_for(platform):
            if platform != "cpu":
                return upscale(lr, prior_lr, origins)
            each = (lr, prior_lr, origins)
            hr: jax.Array = jax.lax.map(lambda tile: upscale(*jax.tree.map(lambda x: x[None], tile))[0], each)
            return hr

    tiles = P("tiles")
    specs = (P(), tiles, tiles, tiles, P())
    shared = jax.shard_map(device_batch, mesh=mesh, in_specs=specs, out_specs=tiles, check_vma=False)
    return jax.jit(shared)


def upscale_tiles(
    model: Assembled,
    params: Items,
    lr: Tiles,
    prior_lr: Tiles | None,
    eps: Float[Array, "b fields t t c"],
    *,
    steps: int,
    method: str,
) -> Float32[Array, "b {model.config.scale}*t {model.config.scale}*t 3"]:
    """x4 bicubic, first stage, prior once per tile, diffusion, quantised decode (design section 1).

    Args: lr: in [-1, 1], as is what returns. prior_lr: the tiles whose prior is taken; None: their own. eps: standard
        normal: the start, then one for each ancestral step but the last.
    Returns: NaN where a number is not finite: clipping would make white or black of infinity.
    """
    window = model.enlarge(lr)
    z_y = model.encode(params, window).astype(jnp.float32)
    denoise = model.denoiser(params, lr, window if prior_lr is None else model.enlarge(prior_lr))
    eps = jnp.moveaxis(eps, 1, 0)
    total = model.config.schedule.num_steps
    steps_of = schedule.make(model.config.schedule, None if steps in (1, total) else steps)
    if steps == 1:
        z_0 = sampler.sample_one_step(denoise, steps_of, z_y, eps[0])
    elif method == "deterministic":
        z_0 = sampler.sample_deterministic(denoise, steps_of, z_y, eps[0])
    else:
        unused = jnp.zeros_like(eps[:1])  # the step to t = 0 adds none
        z_0 = sampler.sample_ancestral(denoise, steps_of, z_y, eps[0], jnp.concatenate([eps[1:], unused]))
    hr = model.decode(params, z_0).astype(jnp.float32)
    return jnp.clip(jnp.where(jnp.isfinite(hr), hr, jnp.nan), -1, 1)
