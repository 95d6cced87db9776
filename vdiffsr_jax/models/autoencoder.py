"""Convolutional encoder and decoder shared by the first stage (VQGAN) and VAR's tokenizer.

Source: Taming Transformers (arXiv:2012.09841), appendix, table 7.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdiffsr_jax.config import VARTokenizerConfig, VQGANConfig
from vdiffsr_jax.models.layers import KERNEL_INIT, ZEROS, Conv, GroupNorm, Linear
from vdiffsr_jax.ops.attention import attention
from vdiffsr_jax.ops.conv import upsample2x_conv2d
from vdiffsr_jax.ops.shuffle import channels_to_pixels, pixels_to_channels

EPS = 1e-6
Config = VQGANConfig | VARTokenizerConfig


class Reconstruction(NamedTuple):
    """What training needs of an autoencoder; `usage`: scalars that tell how much of the codebook is used."""

    image: Float[Array, "b H W 3"]
    vq_loss: Float[Array, ""]
    usage: dict[str, Float[Array, ""]]


class Identity(nnx.Module):
    """Stands where a network without normalisation has none."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def make_norm(c: int, *, num_groups: int, dtype: DTypeLike) -> GroupNorm | Identity:
    """GroupNorm, or nothing where `num_groups` is 0."""
    return GroupNorm(c, eps=EPS, num_groups=num_groups, dtype=dtype) if num_groups else Identity()


class ResBlock(nnx.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 map on the skip where the channels change.

    Without normalisation the second convolution starts at zero, so that a deep stack starts as the identity.
    """

    def __init__(self, c: int, o: int, *, num_groups: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm1 = make_norm(c, num_groups=num_groups, dtype=dtype)
        self.conv1 = Conv(c, o, 3, dtype=dtype, rngs=rngs)
        self.norm2 = make_norm(o, num_groups=num_groups, dtype=dtype)
        self.conv2 = Conv(o, o, 3, dtype=dtype, kernel_init=KERNEL_INIT if num_groups else ZEROS, rngs=rngs)
        self.shortcut = Linear(c, o, dtype=dtype, rngs=rngs) if c != o else None

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w o"]:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class AttentionBlock(nnx.Module):
    """x + W_o attention(q, k, v) over all h*w positions, one head; q, k, v from one map or from three."""

    def __init__(self, c: int, *, fused_qkv: bool, num_groups: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm = make_norm(c, num_groups=num_groups, dtype=dtype)
        if fused_qkv:
            self.qkv = Linear(c, 3 * c, dtype=dtype, rngs=rngs)
        else:
            self.q, self.k, self.v = (Linear(c, c, dtype=dtype, rngs=rngs) for _ in range(3))
        self.fused_qkv = fused_qkv
        self.proj_out = Linear(c, c, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        y = self.norm(x)
        parts = jnp.split(self.qkv(y), 3, axis=-1) if self.fused_qkv else (self.q(y), self.k(y), self.v(y))
        q, k, v = (part.reshape(b, h * w, 1, c) for part in parts)
        out = attention(q, k, v, scale=1 / math.sqrt(c))
        return x + self.proj_out(out.reshape(b, h, w, c))


class Downsample(Conv):
    """3x3 convolution with stride 2; zeros below and to the right only."""

    def __init__(self, c: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(c, c, 3, stride=2, padding=((0, 1), (0, 1)), dtype=dtype, rngs=rngs)


class _SummedConv(Conv):
    """Its taps are added up before they are rounded."""

    ROUNDED = ()


class Upsample(nnx.Module):
    """Nearest x2, then a 3x3 convolution."""

    def __init__(self, c: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = _SummedConv(c, c, 3, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        bias = None if self.conv.bias is None else self.conv.bias[...]
        return upsample2x_conv2d(x.astype(self.conv.dtype), self.conv.kernel[...], bias)


class Resolution(nnx.Module):
    """ResBlocks at one resolution, each followed by attention if `attention`, then `resample`, if any."""

    def __init__(
        self,
        c: int,
        o: int,
        num_blocks: int,
        *,
        attention: bool,
        resample: type[Downsample] | type[Upsample] | None,
        num_groups: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        how: dict[str, Any] = {"num_groups": num_groups, "dtype": dtype, "rngs": rngs}
        self.block = nnx.List([ResBlock(o if i else c, o, **how) for i in range(num_blocks)])
        self.attn = nnx.List([AttentionBlock(o, fused_qkv=True, **how) for _ in range(num_blocks * attention)])
        self.resample = None if resample is None else resample(o, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W o"]:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return x if self.resample is None else self.resample(x)


class Middle(nnx.Module):
    """ResBlock, attention if `attention`, ResBlock."""

    def __init__(
        self, c: int, *, attention: bool, fused_qkv: bool, num_groups: int, dtype: DTypeLike, rngs: nnx.Rngs
    ):  # fmt: skip
        how: dict[str, Any] = {"num_groups": num_groups, "dtype": dtype, "rngs": rngs}
        self.block_1 = ResBlock(c, c, **how)
        self.attn_1 = AttentionBlock(c, fused_qkv=fused_qkv, **how) if attention else Identity()
        self.block_2 = ResBlock(c, c, **how)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nnx.Module):
    """Image -> features at 1 / (patch_size 2^(len(ch_mult) - 1)) of the size; level 0 is the finest.

    `deep_attention`: attention after every block of the deepest level too, and one fused q, k, v map (VAR's tokenizer).
    """

    def __init__(self, cfg: Config, c: int, o: int, *, deep_attention: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        widths = [cfg.ch * m for m in cfg.ch_mult]
        last = len(widths) - 1
        how: dict[str, Any] = {"num_groups": cfg.num_groups, "dtype": dtype, "rngs": rngs}
        self.patch_size = cfg.patch_size
        self.conv_in = Conv(c * cfg.patch_size**2, cfg.ch, 3, dtype=dtype, rngs=rngs)

        def level(i: int) -> Resolution:
            attention = cfg.attention and deep_attention and i == last
            resample = None if i == last else Downsample
            before = widths[i - 1] if i else cfg.ch
            return Resolution(before, widths[i], cfg.num_res_blocks, attention=attention, resample=resample, **how)

        self.down = nnx.List([level(i) for i in range(len(widths))])
        self.mid = Middle(widths[-1], attention=cfg.attention, fused_qkv=deep_attention, **how)
        self.norm_out = make_norm(widths[-1], num_groups=cfg.num_groups, dtype=dtype)
        self.conv_out = Conv(widths[-1], o, 3, dtype=dtype, rngs=rngs)

    def __call__(self, image: Float[Array, "b H W c"]) -> Float[Array, "b h w o"]:
        """(b, h, w, c), h and w divisible by the factor -> (b, h / factor, w / factor, o).

        Raises: ValueError if the size does not divide.
        """
        factor = self.patch_size * 2 ** (len(self.down) - 1)
        if image.shape[1] % factor or image.shape[2] % factor:
            raise ValueError(f"an image of {image.shape[1]}x{image.shape[2]} pixels must divide by {factor}")
        x = self.conv_in(pixels_to_channels(image, self.patch_size))
        for stage in self.down:
            x = stage(x)
        return self.conv_out(jax.nn.silu(self.norm_out(self.mid(x))))


class Decoder(nnx.Module):
    """Mirror of `Encoder`, with one more block per level; level 0 is the finest and comes last."""

    def __init__(self, cfg: Config, c: int, o: int, *, deep_attention: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        widths = [cfg.ch * m for m in cfg.ch_mult]
        last = len(widths) - 1
        how: dict[str, Any] = {"num_groups": cfg.num_groups, "dtype": dtype, "rngs": rngs}
        self.conv_in = Conv(c, widths[-1], 3, dtype=dtype, rngs=rngs)
        self.mid = Middle(widths[-1], attention=cfg.attention, fused_qkv=deep_attention, **how)

        def level(i: int) -> Resolution:
            attention = cfg.attention and deep_attention and i == last
            resample = Upsample if i else None
            before, blocks = widths[min(i + 1, last)], cfg.num_res_blocks + 1
            return Resolution(before, widths[i], blocks, attention=attention, resample=resample, **how)

        self.up = nnx.List([level(i) for i in range(len(widths))])
        self.norm_out = make_norm(widths[0], num_groups=cfg.num_groups, dtype=dtype)
        self.patch_size = cfg.patch_size
        self.conv_out = Conv(widths[0], o * cfg.patch_size**2, 3, dtype=dtype, rngs=rngs)

    def __call__(self, z: Float[Array, "b h w c"]) -> Float[Array, "b H W o"]:
        """(b, h, w, c) -> (b, factor h, factor w, o)."""
        x = self.mid(self.conv_in(z))
        for stage in reversed(list(self.up)):
            x = stage(x)
        return channels_to_pixels(self.conv_out(jax.nn.silu(self.norm_out(x))), self.patch_size)
