"""Swin layer as it stands in the UNet: GroupNorm on maps, no patch merging, no skip around the layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdiffsr_jax.config import SwinUNetConfig
from vdiffsr_jax.models.layers import GroupNorm, Linear
from vdiffsr_jax.ops.window import relative_position_bias, shift_mask, window_attention

NORM_EPS = 1e-5
BIAS_TABLE_INIT = jax.nn.initializers.truncated_normal(0.02)


class WindowAttention(nnx.Module):
    """Multi-head self-attention within windows, with a learned bias per relative position."""

    def __init__(self, width: int, num_heads: int, window: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.window = window
        self.qkv = Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, width, dtype=dtype, rngs=rngs)
        self.bias_table = nnx.Param(BIAS_TABLE_INIT(rngs.params(), ((2 * window - 1) ** 2, num_heads), jnp.float32))

    def __call__(self, x: Float[Array, "b h w c"], shift: int = 0) -> Float[Array, "b h w c"]:
        """With a shift the windows are cut from the map rolled up and left by it."""
        mask = shift_mask(x.shape[1], x.shape[2], self.window, shift) if shift else None
        x = jnp.roll(x, (-shift, -shift), axis=(1, 2)) if shift else x
        bias = relative_position_bias(self.bias_table[...], self.window)
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        y = self.proj(window_attention(q, k, v, bias, window=self.window, mask=mask))
        return jnp.roll(y, (shift, shift), axis=(1, 2)) if shift else y


class SwinBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with the exact GELU.

    Source: Swin Transformer (arXiv:2103.14030), eq. 3, with group normalisation.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        window: int,
        shift: int,
        mlp_ratio: float,
        *,
        num_groups: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden = int(width * mlp_ratio)
        self.shift = shift
        self.norm1 = GroupNorm(width, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.attn = WindowAttention(width, num_heads, window, dtype=dtype, rngs=rngs)
        self.norm2 = GroupNorm(width, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.fc1 = Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        x = x + self.attn(self.norm1(x), self.shift)
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class SwinLayer(nnx.Module):
    """1x1 convolution to the layer's width, Swin blocks with alternating shift, 1x1 convolution back.

    `size` is the nominal side of the map (from `image_size`): it alone decides window and shift, whatever map comes.
    """

    def __init__(self, c: int, size: int, cfg: SwinUNetConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        width = cfg.swin_embed_dim
        window = min(cfg.window_size, size)
        shift = 0 if size <= cfg.window_size else window // 2
        self.embed = Linear(c, width, dtype=dtype, rngs=rngs)
        how: dict[str, Any] = {"num_groups": cfg.num_groups, "dtype": dtype, "rngs": rngs}
        shape = (width, width // cfg.num_head_channels, window)
        self.blocks = nnx.List([SwinBlock(*shape, i % 2 * shift, cfg.mlp_ratio, **how) for i in range(cfg.swin_depth)])
        self.unembed = Linear(width, c, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Raises ValueError if the map does not divide into windows."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.unembed(x)
