"""A photo through the whole product: the Upscaler with the reference's noise, and every stage on its way.

The pictures come from `sampling.upscaler` itself (padding, tiles, uniform blending, rounding); only its noise field is
replaced by the reference's noise. The stages in between are the same networks and samplers, called one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from tests.parity_kinds import swin_unet, vqgan_f4, weights
from vdiffsr_jax.config import VDiffSRConfig, VQGANConfig
from vdiffsr_jax.conversion.vqgan import infer_config
from vdiffsr_jax.diffusion import resshift, sampler, schedule
from vdiffsr_jax.models.assembled import Assembled, Items, assemble
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.ops import noise as noise_field
from vdiffsr_jax.sampling import tiling
from vdiffsr_jax.sampling.upscaler import Upscaler

SINSR = schedule.PUBLISHED["sinsr"]


class _Model(NamedTuple):
    """The model with its parameters, and the tile's side in LR pixels and the reference's stride."""

    assembled: Assembled
    items: Items
    tile: int
    stride: int


def _given_noise(by_tile: np.ndarray, grid: tiling.Grid) -> Callable[..., jax.Array]:
    """In place of `ops.noise.noise_at`: the reference's noise of the tile that stands there.

    Args: by_tile: (tiles, fields, tile, tile, c).
    """
    places = jnp.array([grid.position(index) for index in range(grid.count)])

    def noise_at(key: jax.Array, origins: jax.Array, *, fields: int, side: int, channels: int) -> jax.Array:
        want = (fields, side, side, channels)
        assert by_tile.shape[1:] == want, f"the reference's noise is {by_tile.shape[1:]}, the sampler asks for {want}"
        which = (places[None] == origins[:, None]).all(axis=-1).argmax(axis=-1)
        return jnp.asarray(by_tile)[which]

    return noise_at


def outputs(folder: Path, io: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every reference array that `io` has, with its inputs, pictures apart from the stages before them."""
    config = json.loads((folder / "config.json").read_text())
    unet_cfg, _, unet_params = swin_unet.load(folder / config["unet"])
    _, first_stage_params = vqgan_f4.load(folder / config["first_stage"])
    first_stage = _first_stage_config(folder / config["first_stage"])
    model = _Model(
        assemble(VDiffSRConfig(first_stage=first_stage, denoiser=unet_cfg, prior=None)),
        {"first_stage": first_stage_params, "denoiser": {"unet": unet_params}},
        *config["tile"],
    )
    noise = {name: np.moveaxis(io[name], -3, -1) for name in ("noise", "chain_noise", "tile_noise") if name in io}
    makes: dict[str, tuple[tuple[str, ...], Callable[[], tuple[np.ndarray, np.ndarray, int]]]] = {
        "sinsr": (("lr", "noise"), lambda: (io["lr"], noise["noise"][:, None], 1)),
        "resshift15": (
            ("lr", "noise", "chain_noise"),
            lambda: (
                io["lr"], np.concatenate([noise["noise"], noise["chain_noise"][:-1, 0]])[None], SINSR.num_steps
            ),
        ),
        "tiled": (("tiled_lr", "tile_noise"), lambda: (io["tiled_lr"], noise["tile_noise"], 1)),
    }  # fmt: skip
    runs = {run: make() for run, (inputs, make) in makes.items() if all(name in io for name in inputs)}
    result: dict[str, np.ndarray] = {}
    for run, (lr, by_tile, steps) in runs.items():
        if f"{run}_uint8" in io:
            result[f"{run}_uint8"] = _upscale(model, lr, by_tile, steps)
        if any(name.startswith(f"{run}_") and name not in (f"{run}_uint8", "tiled_lr") for name in io):
            result |= {f"{run}_{name}": array for name, array in _stages(model, lr, by_tile, steps).items()}
    if "lr_upsampled" in io and "lr" in io:
        tile = _scaled(tiling.cut(io["lr"], (0, 0), model.tile))
        result["lr_upsampled"] = _nchw(model.assembled.enlarge(tile))
    return result


def _first_stage_config(folder: Path) -> VQGANConfig:
    return infer_config({name: array.shape for name, array in weights.load(folder).items()})


def _grid(model: _Model, lr: np.ndarray) -> tiling.Grid:
    return tiling.Grid(lr.shape[0], lr.shape[1], model.tile, model.stride)


def _scaled(tile: np.ndarray) -> jax.Array:
    """(h, w, 3) uint8 -> (1, h, w, 3) in [-1, 1]."""
    return jnp.asarray((tile.astype(np.float32)[None] / 255 - 0.5) / 0.5)


def _upscale(model: _Model, lr: np.ndarray, by_tile: np.ndarray, steps: int) -> np.ndarray:
    """The product, whole: `Upscaler` with uniform blending."""
    upscaler = Upscaler(model.assembled.config, dict(model.items), devices=1, batch=1, tile=model.tile)
    with mock.patch.object(noise_field, "noise_at", _given_noise(by_tile, _grid(model, lr))):
        return upscaler(lr, steps=steps, blend="uniform", stride=model.stride, sampler="ancestral")


def _stages(model: _Model, lr: np.ndarray, by_tile: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Latents, codes and decoded tiles; the blended picture before rounding."""
    grid = _grid(model, lr)
    blender = tiling.Blender(grid, 4, blend="uniform")
    made = schedule.make(SINSR)
    whole = model.assembled
    encode, decode = jax.jit(whole.encode), jax.jit(whole.decode)
    quantize = jax.jit(whole.networks["first_stage"].method(VQGAN.quantize))
    apply = jax.jit(lambda items, x, t, lr: whole.denoise(items, x, t, lr, None))
    result: dict[str, np.ndarray] = {}
    rows = []
    for index in range(grid.count):
        tile, noise = _scaled(tiling.cut(lr, grid.position(index), model.tile)), jnp.asarray(by_tile[index])[:, None]
        z_y = encode(model.items, whole.enlarge(tile))

        def denoise(x: jax.Array, t: jax.Array, tile: jax.Array = tile) -> jax.Array:
            return apply(model.items, x, t, tile)

        stages: dict[str, np.ndarray] = {"z_y": _nchw(z_y)}
        if steps == 1:
            z_0 = sampler.sample_one_step(denoise, made, z_y, noise[0])
            unet_in, unet_out = [sampler.start(made, z_y, noise[0])], [z_0]
        else:
            step_noise = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])
            rule = sampler.ancestral(made, z_y, step_noise)
            trace = sampler.chain(denoise, made, z_y, noise[0], rule, keep=True)[1]
            z_0, unet_in, unet_out = trace.z[-1], [sampler.start(made, z_y, noise[0]), *trace.z[:-1]], list(trace.z_0)
        for s, (z_t, predicted) in enumerate(zip(unet_in, unet_out, strict=True)):
            stages[f"unet_in_{s}"] = _nchw(resshift.scale_input(z_t, made.input_std[made.num_steps - 1 - s]))
            stages[f"unet_out_{s}"] = _nchw(predicted)
        decoded = decode(model.items, z_0)
        stages |= {
            "z0": _nchw(z_0),
            "indices": np.asarray(quantize(model.items["first_stage"], z_0)[1]),
            "decoded": _nchw(decoded),
        }
        result |= {name if grid.count == 1 else f"{name}_tile{index}": array for name, array in stages.items()}
        finished = blender.add(np.clip(np.asarray(decoded[0]), -1, 1))
        if finished is not None:
            rows.append(finished[1].copy())
    result["float"] = np.moveaxis(np.concatenate(rows) * 0.5 + 0.5, -1, 0)[None]
    asked = made.timestep_map[::-1][:steps, None]
    return result | {"unet_t": np.tile(asked, (grid.count, 1))}


def _nchw(latent: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(latent), -1, -3)
