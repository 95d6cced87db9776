"""The three layers every network here is made of, with parameters in float32 and compute in `dtype`.

Layout: NHWC maps, HWIO kernels, (in, out) matrices.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdiffsr_jax.ops.conv import Padding, conv2d
from vdiffsr_jax.ops.depthwise import depthwise_conv2d
from vdiffsr_jax.ops.norm import group_norm, layer_norm

Initializer = jax.nn.initializers.Initializer
KERNEL_INIT = jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
ZEROS = jax.nn.initializers.zeros


class KeyValue(NamedTuple):
    """What attention reads: keys and values of the same tokens (b, n, heads, d), or of a map (b, h, w, heads d)."""

    k: Float[Array, "b *tokens d"]
    v: Float[Array, "b *tokens d"]


class Conv(nnx.Module):
    """2-D convolution; `padding` is symmetric unless given per side.

    `depthwise` gives every channel its own kernel, in = out.
    """

    ROUNDED: ClassVar[tuple[str, ...]] = ("kernel", "bias")  # to `dtype`, before every use

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: Padding | None = None,
        depthwise: bool = False,
        use_bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer = KERNEL_INIT,
        rngs: nnx.Rngs,
    ):
        half = kernel_size // 2
        self.stride = stride
        self.depthwise = depthwise
        self.padding = ((half, half), (half, half)) if padding is None else padding
        self.dtype = dtype
        shape = (kernel_size, kernel_size, 1 if depthwise else in_channels, out_channels)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_channels,), jnp.float32)) if use_bias else None

    def __call__(self, x: Float[Array, "b h w c"], *, padding: Padding | None = None) -> Float[Array, "b H W o"]:
        """`padding` replaces the constructor's where it depends on the size of the map."""
        padding = self.padding if padding is None else padding
        kernel = self.kernel[...].astype(self.dtype)
        bias = None if self.bias is None else self.bias[...].astype(self.dtype)
        convolve = depthwise_conv2d if self.depthwise else conv2d
        return convolve(x.astype(self.dtype), kernel, bias, stride=self.stride, padding=padding)


class Linear(nnx.Module):
    """Affine map of the last axis, with an optional low-rank update x A B (LoRA)."""

    ROUNDED: ClassVar[tuple[str, ...]] = ("kernel", "bias", "lora_a", "lora_b")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        lora_rank: int = 0,
        dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer = KERNEL_INIT,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        self.kernel = nnx.Param(kernel_init(rngs.params(), (in_features, out_features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if use_bias else None
        self.lora_a = self.lora_b = nnx.data(None)
        if lora_rank:
            self.lora_a = nnx.Param(KERNEL_INIT(rngs.params(), (in_features, lora_rank), jnp.float32))
            self.lora_b = nnx.Param(jnp.zeros((lora_rank, out_features), jnp.float32))

    def __call__(self, x: Float[Array, "*rest c"]) -> Float[Array, "*rest o"]:
        x = x.astype(self.dtype)
        y = x @ self.kernel[...].astype(self.dtype)
        if self.lora_a is not None and self.lora_b is not None:
            y = y + (x @ self.lora_a[...].astype(self.dtype)) @ self.lora_b[...].astype(self.dtype)
        return y if self.bias is None else y + _like(self.bias[...], y).astype(self.dtype)


class GroupNorm(nnx.Module):
    """GroupNorm over (h, w, c / groups) with statistics in float32; `eps` has no default on purpose."""

    def __init__(self, channels: int, *, eps: float, num_groups: int, dtype: DTypeLike = jnp.float32):
        self.num_groups = num_groups
        self.eps = eps
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones((channels,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        y = group_norm(x, self.scale[...], self.bias[...], num_groups=self.num_groups, eps=self.eps)
        return y.astype(self.dtype)


class LayerNorm(nnx.Module):
    """LayerNorm over the last axis with statistics in float32; without parameters if not `affine`."""

    def __init__(self, features: int, *, eps: float, affine: bool = True, dtype: DTypeLike = jnp.float32):
        self.eps = eps
        self.dtype = dtype
        self.scale = nnx.Param(jnp.ones((features,), jnp.float32)) if affine else None
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32)) if affine else None

    def __call__(self, x: Float[Array, "*rest c"]) -> Float[Array, "*rest c"]:
        y = layer_norm(x, eps=self.eps)
        if self.scale is not None and self.bias is not None:
            y = y * _like(self.scale[...], y) + _like(self.bias[...], y)
        return y.astype(self.dtype)


def _like(vector: jax.Array, x: jax.Array) -> jax.Array:
    """(c,) with the rank of x: rank promotion is an error in the tests."""
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))
