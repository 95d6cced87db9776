"""A trained denoiser for another first stage, without training: python -m stages.move_denoiser --help

Between entrance and exit a denoiser works on features of its own. Its entrance is given the new latents by a linear map
onto the old ones, its exit is fitted by least squares to the new latents of HR crops. CoGU and CSPA stay behind.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.probe import crops, neighbours
from stages import command
from vdiffsr_jax.config import ConfigError, SwinUNetConfig
from vdiffsr_jax.config.ranges import Count, number
from vdiffsr_jax.diffusion import resshift, sampler, schedule
from vdiffsr_jax.models.build import Params, build, flatten, unflatten
from vdiffsr_jax.models.kinds import DenoiserConfig
from vdiffsr_jax.models.swin_unet import SwinUNet
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.ops.resize import bicubic
from vdiffsr_jax.training.tasks.sources import network_in
from vdiffsr_jax.weights import checkpoint

Encode = Callable[[np.ndarray], np.ndarray]  # pictures (n, S, S, 3) -> latents
BATCH = 16
RIDGE = 1e-6  # of the mean variance of the exit's inputs


def encoder(directory: str) -> Encode:
    """Pictures (n, S, S, 3) -> latents (n, S / f, S / f, c) of the first stage in a checkpoint."""
    _, item, config = network_in("first_stage", directory)
    params = checkpoint.load_model(directory, items=[item]).items[item]
    encode = jax.jit(build(VQGAN, config).method(VQGAN.encode))
    return lambda images: in_batches(lambda part: encode(params, part), images)


def in_batches(run: Callable[..., jax.Array], *arrays: np.ndarray) -> np.ndarray:
    """Results of `run` on all of the arrays, BATCH of each at a time."""
    parts = [run(*(a[i : i + BATCH] for a in arrays)) for i in range(0, len(arrays[0]), BATCH)]
    return np.concatenate([np.asarray(p) for p in parts])


def onto(z_new: np.ndarray, z_old: np.ndarray) -> np.ndarray:
    """(c_new, c_old): the linear map nearest to new -> old latents, of unit columns: noise keeps its strength."""
    a, b = (z.reshape(-1, z.shape[-1]) for z in (z_new, z_old))
    map_, *_ = np.linalg.lstsq(a - a.mean(axis=0), b - b.mean(axis=0), rcond=None)
    return np.asarray(map_ / np.linalg.norm(map_, axis=0))


def fitted_exit(features: np.ndarray, z_0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (3, 3, c, c_new) and bias that bring features (n, h, w, c) nearest to z_0 (n, h, w, c_new)."""
    channels, out = features.shape[-1], z_0.shape[-1]
    square, right = np.zeros((9 * channels + 1,) * 2), np.zeros((9 * channels + 1, out))
    for i in range(0, len(features), BATCH):
        read = neighbours(features[i : i + BATCH], edge="constant").reshape(-1, 9 * channels)
        x = np.concatenate([read, np.ones((len(read), 1))], axis=1, dtype=np.float64)
        square += x.T @ x
        right += x.T @ z_0[i : i + BATCH].reshape(-1, out)
    weights = np.linalg.solve(square + RIDGE * np.trace(square) / len(square) * np.eye(len(square)), right)
    return weights[:-1].reshape(3, 3, channels, out).astype(np.float32), weights[-1].astype(np.float32)


def features_of(unet: Params, config: SwinUNetConfig) -> Callable[..., jax.Array]:
    """The denoiser with an exit that shows what the real one reads."""
    network = build(SwinUNet, dataclasses.replace(config, out_channels=config.model_channels))
    channels = config.model_channels
    identity = jnp.zeros((3, 3, channels, channels)).at[1, 1].set(jnp.eye(channels))
    flat = flatten(unet) | {"conv_out/kernel": identity, "conv_out/bias": jnp.zeros(channels)}
    params = unflatten(flat, network.abstract)
    return jax.jit(lambda x, t, lr: network.apply(params, x, t, lr))


@dataclasses.dataclass(frozen=True)
class Seen:
    """HR crops as a denoiser's task: (n, h, w, c) each, x being z_T over its standard deviation."""

    z_0: np.ndarray
    z_y: np.ndarray
    x: np.ndarray
    lr: np.ndarray
    window: np.ndarray

    @classmethod
    def of(
        cls, photos: str, per_photo: int, side: int, chain: schedule.Schedule, encode: Encode, seed: Sequence[int]
    ) -> Seen:
        """Crops of `side` pixels of every photo, degraded as `mild`."""
        hr, lr = (np.stack(half) for half in zip(*crops(photos, per_photo, side, "mild", seed), strict=True))
        window = in_batches(lambda part: bicubic(jnp.asarray(part), (side, side)), lr)
        z_0, z_y = encode(hr), encode(window)
        z_t = sampler.start(chain, jnp.asarray(z_y), jax.random.normal(jax.random.key(0), z_y.shape))
        return cls(z_0, z_y, np.asarray(resshift.scale_input(z_t, chain.input_std[-1])), lr, window)


def moved(
    unet: Params, config: SwinUNetConfig, t: int, seen: Seen, z_y_old: np.ndarray
) -> tuple[Params, SwinUNetConfig]:
    """The denoiser for the latents in `seen`, fitted at its last step `t`; z_y_old are their old ones."""
    flat = dict(flatten(unet))
    kernel = np.asarray(flat["input_blocks/0/kernel"])
    latents = kernel.shape[2] - 3
    entrance = np.einsum("hwox,io->hwix", kernel[:, :, :latents], onto(seen.z_y, z_y_old))
    flat["input_blocks/0/kernel"] = np.concatenate([entrance, kernel[:, :, latents:]], axis=2).astype(np.float32)
    channels = seen.z_0.shape[-1]
    config = dataclasses.replace(config, in_channels=channels + 3, out_channels=channels)
    features = in_batches(features_of(flat, config), seen.x, np.full(len(seen.x), t, np.int32), seen.lr)
    flat["conv_out/kernel"], flat["conv_out/bias"] = fitted_exit(features, seen.z_0)
    return unflatten(flat, build(SwinUNet, config).abstract), config


def unexplained(unet: Params, config: SwinUNetConfig, t: int, seen: Seen) -> float:
    """|f(z_T, T) - z_0|^2 as a share of the variance of z_0."""
    run = jax.jit(build(SwinUNet, config).apply)
    made = in_batches(lambda x, t, lr: run(unet, x, t, lr), seen.x, np.full(len(seen.x), t, np.int32), seen.lr)
    return float(np.square(made - seen.z_0).mean() / seen.z_0.var())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="whole model whose denoiser moves")
    parser.add_argument("--first_stage", required=True, help="first stage it moves to")
    parser.add_argument("--photos", required=True, help="HR photos to fit to")
    parser.add_argument("--held_out", required=True, help="HR photos to judge by")
    parser.add_argument("--crops", type=number(Count), default=3, help="of a photo (default: 3)")
    parser.add_argument("--tile_size", type=int, help="the new denoiser's image_size, if not the old one's")
    command.run(parser, _move)


def resized(config: SwinUNetConfig, side: int) -> SwinUNetConfig:
    """The configuration for tiles of `side`. Raises: ConfigError if there is none."""
    if side < 1:
        raise ConfigError(f"--tile_size {side} must be at least 1")
    sides = tuple(side >> level for level in range(len(config.channel_mult)))
    return dataclasses.replace(config, image_size=side, attention_resolutions=sides)


def _move(args: argparse.Namespace) -> None:
    old = checkpoint.load_model(args.model, items=["denoiser"], dtype=jnp.float32)
    after = old.config.denoiser if args.tile_size is None else resized(old.config.denoiser, args.tile_size)
    chain, encode = schedule.make(old.config.schedule), encoder(args.first_stage)
    side, t = old.config.tile_size * old.config.scale, int(chain.timestep_map[-1])
    seen, held_out = (
        Seen.of(photos, args.crops, side, chain, encode, seed)
        for photos, seed in ((args.photos, (0,)), (args.held_out, (0, 1)))
    )
    z_y_old = encoder(args.model)(seen.window)
    unet, config = moved(old.items["denoiser"]["unet"], old.config.denoiser, t, seen, z_y_old)
    for name, part in (("fitted", seen), ("held out", held_out)):
        print(f"{name}: {len(part.lr)} crops, {unexplained(unet, config, t, part):.3f} of z_0's variance unexplained")
    config = dataclasses.replace(config, image_size=after.image_size, attention_resolutions=after.attention_resolutions)
    whole = DenoiserConfig(config, old.config.schedule)
    checkpoint.save_model(args.output, {"swin_unet": unet}, kind="swin_unet", config=whole)


if __name__ == "__main__":
    main()
