"""Denoiser of ResShift and SinSR: a UNet of residual blocks with one Swin layer per level and direction.

Source: ResShift (arXiv:2307.12348), sec. 3.3; the UNet is that of Diffusion Models Beat GANs (arXiv:2105.05233).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from vdiffsr_jax.config import SwinUNetConfig
from vdiffsr_jax.models.autoencoder import Upsample
from vdiffsr_jax.models.layers import ZEROS, Conv, GroupNorm, Linear
from vdiffsr_jax.models.remat import remat_block
from vdiffsr_jax.models.swin import NORM_EPS, SwinLayer
from vdiffsr_jax.ops.embed import timestep_embedding

Map = Float[Array, "b h w c"]
LR = Float[Array, "b h w 3"]
Steps = Int[Array, " b"]
Fuse = Callable[[int, Map, Float[Array, "b emb"]], Map]


def swin_places(cfg: SwinUNetConfig) -> tuple[tuple[int, int], ...]:
    """(channels, nominal side) after each Swin layer, in forward order: down, middle, up."""
    levels = [(cfg.model_channels * mult, cfg.image_size >> i) for i, mult in enumerate(cfg.channel_mult)]
    attended = [level for level in levels if level[1] in cfg.attention_resolutions]
    return (*attended, levels[-1], *reversed(attended))


class TimeEmbed(nnx.Module):
    """Sinusoids of t through two linear maps, to 4 * model_channels numbers."""

    def __init__(self, channels: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.channels = channels
        self.fc1 = Linear(channels, 4 * channels, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(4 * channels, 4 * channels, dtype=dtype, rngs=rngs)

    def __call__(self, t: Steps) -> Float[Array, "b {4*self.channels}"]:
        return self.fc2(jax.nn.silu(self.fc1(timestep_embedding(t, self.channels))))


class TimedResBlock(nnx.Module):
    """skip(x) + conv(silu((1 + scale) norm(conv(silu(norm(x)))) + shift)), scale and shift linear in silu(emb)."""

    def __init__(self, c: int, o: int, emb: int, *, num_groups: int, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.norm1 = GroupNorm(c, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.conv1 = Conv(c, o, dtype=dtype, rngs=rngs)
        self.emb = Linear(emb, 2 * o, dtype=dtype, rngs=rngs)
        self.norm2 = GroupNorm(o, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.conv2 = Conv(o, o, dtype=dtype, kernel_init=ZEROS, rngs=rngs)
        self.skip = Linear(c, o, dtype=dtype, rngs=rngs) if c != o else None

    def __call__(self, x: Map, emb: Float[Array, "b emb"]) -> Float[Array, "b h w o"]:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        scale, shift = jnp.split(self.emb(jax.nn.silu(emb))[:, None, None, :], 2, axis=-1)
        h = self.conv2(jax.nn.silu(self.norm2(h) * (1 + scale) + shift))
        return h + (x if self.skip is None else self.skip(x))


class UNetStage(nnx.Module):
    """TimedResBlock -> Swin layer -> fusion with a prior -> upsampling, the last three where present."""

    def __init__(self, res: TimedResBlock, swin: SwinLayer | None = None, upsample: Upsample | None = None):
        self.res = res
        self.swin = swin
        self.upsample = upsample


class SwinUNet(nnx.Module):
    """f(x, t, lr) -> prediction of z_0. Channels of x and lr are concatenated at the entrance.

    `remat` says what of ResBlocks and Swin layers the backward pass keeps, see `models.remat`.
    Raises: ValueError if a level of `channel_mult` has no residual block.
    """

    def __init__(self, cfg: SwinUNetConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        if min(cfg.num_res_blocks) < 1:
            raise ValueError(f"denoiser.num_res_blocks={cfg.num_res_blocks} needs at least one block per level")
        emb_channels = 4 * cfg.model_channels
        widths = [cfg.model_channels * mult for mult in cfg.channel_mult]
        sizes = [cfg.image_size >> level for level in range(len(widths))]

        def res(n_in: int, n_out: int) -> TimedResBlock:
            return TimedResBlock(n_in, n_out, emb_channels, num_groups=cfg.num_groups, dtype=dtype, rngs=rngs)

        def swin(level: int) -> SwinLayer:
            return SwinLayer(widths[level], sizes[level], cfg, dtype=dtype, rngs=rngs)

        self.dtype = dtype
        self.remat = remat
        self.downsampling = 2 ** (len(widths) - 1)
        self.time_embed = TimeEmbed(cfg.model_channels, dtype=dtype, rngs=rngs)
        channels = widths[0]
        blocks: list[nnx.Module] = [Conv(cfg.in_channels, channels, dtype=dtype, rngs=rngs)]
        skips = [channels]
        for level, width in enumerate(widths):
            if level:
                blocks.append(Conv(channels, channels, stride=2, dtype=dtype, rngs=rngs))
                skips.append(channels)
            for i in range(cfg.num_res_blocks[level]):
                attend = i == 0 and sizes[level] in cfg.attention_resolutions
                blocks.append(UNetStage(res(channels, width), swin(level) if attend else None))
                channels = width
                skips.append(channels)
        self.input_blocks = nnx.List(blocks)
        self.middle = UNetStage(res(channels, channels), swin(len(widths) - 1))
        self.middle_res = res(channels, channels)
        stages = []
        for level, width in reversed(list(enumerate(widths))):
            for i in range(cfg.num_res_blocks[level] + 1):
                attend = i == 0 and sizes[level] in cfg.attention_resolutions
                grow = level > 0 and i == cfg.num_res_blocks[level]
                stages.append(
                    UNetStage(
                        res(channels + skips.pop(), width),
                        swin(level) if attend else None,
                        Upsample(width, dtype=dtype, rngs=rngs) if grow else None,
                    )
                )
                channels = width
        self.output_blocks = nnx.List(stages)
        self.norm_out = GroupNorm(channels, eps=NORM_EPS, num_groups=cfg.num_groups, dtype=dtype)
        self.conv_out = Conv(channels, cfg.out_channels, dtype=dtype, kernel_init=ZEROS, rngs=rngs)

    def __call__(self, x: Map, t: Steps, lr: LR, fuse: Fuse | None = None) -> Float32[Array, "b h w o"]:
        """Prediction of z_0.

        Args: x: z_t already divided by its standard deviation. t: the network's own steps. lr: in [-1, 1]. fuse:
            `fuse(i, h, emb) -> h` is applied after the i-th Swin layer.
        Raises: ValueError if the map does not fit downsampling or windows, or if x and lr differ in size.
        """
        return dict(self.blocks(x, t, lr, fuse))["out"]

    def blocks(self, x: Map, t: Steps, lr: LR, fuse: Fuse | None = None) -> Iterator[tuple[str, jax.Array]]:
        """The forward pass, block by block: (name, output) from "time_embed" to "out". Arguments as for a call."""
        self._check(x, lr)
        place = itertools.count()
        emb = self.time_embed(t)
        yield "time_embed", emb

        def run(stage: UNetStage, h: jax.Array) -> jax.Array:
            h = self._remat(stage.res, h, emb)
            if stage.swin is not None:
                h = self._remat(stage.swin, h)
                h = h if fuse is None else fuse(next(place), h, emb)
            return h if stage.upsample is None else stage.upsample(h)

        h = jnp.concatenate([x, lr], axis=-1)
        skips = []
        for i, block in enumerate(self.input_blocks):
            h = run(block, h) if isinstance(block, UNetStage) else block(h)
            skips.append(h)
            yield f"input_blocks_{i}", h
        h = self._remat(self.middle_res, run(self.middle, h), emb)
        yield "middle_block", h
        for i, block in enumerate(self.output_blocks):
            h = run(block, jnp.concatenate([h, skips.pop()], axis=-1))
            yield f"output_blocks_{i}", h
        yield "out", self.conv_out(jax.nn.silu(self.norm_out(h))).astype(jnp.float32)

    def _remat(self, module: Callable[..., jax.Array], *args: Any) -> jax.Array:
        return remat_block(lambda *a: module(*a), self.remat)(*args)

    def _check(self, x: jax.Array, lr: jax.Array) -> None:
        if x.shape[:3] != lr.shape[:3]:
            raise ValueError(f"LR of shape {lr.shape} must have the batch and size of the latent, {x.shape}")
        if x.shape[1] % self.downsampling or x.shape[2] % self.downsampling:
            raise ValueError(f"a latent of {x.shape[1]}x{x.shape[2]} must divide by {self.downsampling}; pad the image")
