"""A trained denoiser for another first stage, without training: python stages/move_denoiser.py --help

Between entrance and exit a denoiser works on features of its own. Its entrance is given the new latents by a linear map
onto the old ones, its exit is fitted by least squares to the new latents of HR crops. CoGU and CSPA stay behind.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.probe import crops
from vdiffsr_jax.config import SwinUNetConfig
from vdiffsr_jax.diffusion import resshift, sampler, schedule
from vdiffsr_jax.models.build import Params, build, flatten, unflatten
from vdiffsr_jax.models.kinds import DenoiserConfig
from vdiffsr_jax.models.swin_unet import SwinUNet
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.ops.resize import bicubic
from vdiffsr_jax.weights import checkpoint

BATCH = 16
RIDGE = 1e-6  # of the mean variance of the exit's inputs


def encoder(directory: str) -> Callable[[np.ndarray], np.ndarray]:
    """Pictures (n, S, S, 3) -> latents (n, S / f, S / f, c) of the first stage in a checkpoint."""
    model = checkpoint.load_model(directory, items=["first_stage" if has_denoiser(directory) else "vqgan"])
    (params,) = model.items.values()
    config = model.config.first_stage if has_denoiser(directory) else model.config
    encode = jax.jit(build(VQGAN, config).method(VQGAN.encode))
    return lambda images: in_batches(lambda part: encode(params, part), images)


def has_denoiser(directory: str) -> bool:
    """Whether a checkpoint is a whole model, not a first stage alone."""
    return checkpoint.read_config(directory)[0] == "vdiffsr"


def in_batches(run: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
    """Results of `run` on all of the arrays, BATCH of each at a time."""
    parts = [run(*(a[i : i + BATCH] for a in arrays)) for i in range(0, len(arrays[0]), BATCH)]
    return np.concatenate([np.asarray(p) for p in parts])


def onto(z_new: np.ndarray, z_old: np.ndarray) -> np.ndarray:
    """(c_new, c_old): the linear map nearest to new -> old latents, of unit columns: noise keeps its strength."""
    a, b = (z.reshape(-1, z.shape[-1]) for z in (z_new, z_old))
    map_, *_ = np.linalg.lstsq(a - a.mean(axis=0), b - b.mean(axis=0), rcond=None)
    return np.asarray(map_ / np.linalg.norm(map_, axis=0))


def neighbours(maps: np.ndarray) -> np.ndarray:
    """(n, h, w, c) -> what a 3x3 convolution reads at each place, and 1: (n h w, 9 c + 1)."""
    n, h, w, c = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    read = np.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)
    return np.concatenate([read.reshape(-1, 9 * c), np.ones((n * h * w, 1))], axis=1, dtype=np.float64)


def fitted_exit(features: np.ndarray, z_0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (3, 3, c, c_new) and bias that bring features (n, h, w, c) nearest to z_0 (n, h, w, c_new)."""
    channels, out = features.shape[-1], z_0.shape[-1]
    square, right = np.zeros((9 * channels + 1,) * 2), np.zeros((9 * channels + 1, out))
    for i in range(0, len(features), BATCH):
        x = neighbours(features[i : i + BATCH])
        square += x.T @ x
        right += x.T @ z_0[i : i + BATCH].reshape(-1, out)
    weights = np.linalg.solve(square + RIDGE * np.trace(square) / len(square) * np.eye(len(square)), right)
    return weights[:-1].reshape(3, 3, channels, out).astype(np.float32), weights[-1].astype(np.float32)


def features_of(unet: Params, config: SwinUNetConfig) -> Callable[..., jax.Array]:
    """The denoiser with an exit that shows what the real one reads."""
    network = build(SwinUNet, dataclasses.replace(config, out_channels=config.model_channels))
    identity = (
        jnp.zeros((3, 3, config.model_channels, config.model_channels)).at[1, 1].set(jnp.eye(config.model_channels))
    )
    flat = flatten(unet) | {"conv_out/kernel": identity, "conv_out/bias": jnp.zeros(config.model_channels)}
    params = unflatten(flat, network.abstract)
    return jax.jit(lambda x, t, lr: network.apply(params, x, t, lr))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="whole model whose denoiser moves")
    parser.add_argument("--first_stage", required=True, help="first stage it moves to")
    parser.add_argument("--photos", required=True, help="HR photos, cut and degraded as `mild`")
    parser.add_argument("--crops", type=int, default=3, help="of a photo (default: 3)")
    parser.add_argument("--tile_size", type=int, help="the new denoiser's image_size, if not the old one's")
    parser.add_argument("--output", required=True, help="folder of the new swin_unet checkpoint")
    args = parser.parse_args()

    old = checkpoint.load_model(args.model, items=["denoiser"], dtype=jnp.float32)
    side = old.config.tile_size * old.config.scale
    hr, lr = (np.stack(half) for half in zip(*crops(args.photos, args.crops, side, "mild", 0), strict=True))
    window = in_batches(lambda part: bicubic(jnp.asarray(part), (side, side)), lr)
    encode = encoder(args.first_stage)
    z_0, z_y = encode(hr), encode(window)

    chain = schedule.make(old.config.schedule)
    noise = jax.random.normal(jax.random.key(0), z_y.shape)
    x = np.asarray(resshift.scale_input(sampler.start(chain, jnp.asarray(z_y), noise), chain.input_std[-1]))
    t = np.full(len(x), chain.timestep_map[-1], np.int32)

    unet = dict(flatten(old.items["denoiser"]["unet"]))
    kernel = np.asarray(unet["input_blocks/0/kernel"])
    c_old = kernel.shape[2] - 3
    entrance = np.einsum("hwox,io->hwix", kernel[:, :, :c_old], onto(z_y, encoder(args.model)(window)))
    unet["input_blocks/0/kernel"] = np.concatenate([entrance, kernel[:, :, c_old:]], axis=2).astype(np.float32)
    config = dataclasses.replace(old.config.denoiser, in_channels=z_0.shape[-1] + 3, out_channels=z_0.shape[-1])
    features = in_batches(features_of(unet, config), x, t, lr)
    unet["conv_out/kernel"], unet["conv_out/bias"] = fitted_exit(features, z_0)

    if args.tile_size:
        sides = [args.tile_size >> level for level in range(len(config.channel_mult))]
        config = dataclasses.replace(config, image_size=args.tile_size, attention_resolutions=tuple(sides))
    items = {"swin_unet": unflatten(unet, build(SwinUNet, config).abstract)}
    whole = DenoiserConfig(config, old.config.schedule)
    checkpoint.save_model(args.output, items, kind="swin_unet", config=whole)
    print(f"{args.output}: from {len(hr)} crops of {side} pixels")


if __name__ == "__main__":
    main()
