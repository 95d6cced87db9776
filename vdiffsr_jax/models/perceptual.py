"""Perceptual distances: frozen backbones whose features tell how alike two images look.

LPIPS (arXiv:1801.03924) with VGG16 or AlexNet and the published heads, and the "feature distance" of
EfficientNet-Lite0, which has no learned heads and is never called LPIPS.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vdiffsr_jax.models.layers import Conv

# LPIPS standardises images in [-1, 1] with these (its `ScalingLayer`).
LPIPS_SHIFT = (-0.030, -0.088, -0.188)
LPIPS_SCALE = (0.458, 0.448, 0.450)
Map = Float32[Array, "b _ _ _"]


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Halves a map by size x size maxima."""
    pooled: jax.Array = nnx.max_pool(x, (size, size), (2, 2))
    return pooled


class VGG16(nnx.Module):
    """13 convolutions of VGG16 (arXiv:1409.1556); features after the last ReLU of each of the five stages."""

    stages = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    channels = (64, 128, 256, 512, 512)

    def __init__(self, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        widths = [width for stage in self.stages for width in stage]
        self.convs = nnx.List(
            [Conv(c, o, 3, dtype=dtype, rngs=rngs) for c, o in zip([3, *widths[:-1]], widths, strict=True)]
        )

    def __call__(self, x: jax.Array, pool: Callable[[jax.Array], jax.Array] = max_pool) -> list[jax.Array]:
        """(b, h, w, 3) standardised -> five maps, halved by `pool` at each stage."""
        convs = iter(self.convs)
        features = []
        for i, stage in enumerate(self.stages):
            if i:
                x = pool(x)
            for _ in stage:
                x = jax.nn.relu(next(convs)(x))
            features.append(x)
        return features


class AlexNet(nnx.Module):
    """Five convolutions of AlexNet (arXiv:1404.5997); features after each ReLU."""

    channels = (64, 192, 384, 256, 256)

    def __init__(self, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.convs = nnx.List(
            [
                Conv(3, 64, 11, stride=4, padding=((2, 2), (2, 2)), dtype=dtype, rngs=rngs),
                Conv(64, 192, 5, dtype=dtype, rngs=rngs),
                Conv(192, 384, 3, dtype=dtype, rngs=rngs),
                Conv(384, 256, 3, dtype=dtype, rngs=rngs),
                Conv(256, 256, 3, dtype=dtype, rngs=rngs),
            ]
        )

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """(b, h, w, 3) standardised, at least 63 pixels a side -> five maps."""
        features = []
        for i, conv in enumerate(self.convs):
            if i in (1, 2):
                x = max_pool(x, 3)
            x = jax.nn.relu(conv(x))
            features.append(x)
        return features


class FrozenBatchNorm(nnx.Module):
    """BatchNorm with the statistics it was trained to: (x - mean) / sqrt(var + eps) * scale + bias."""

    def __init__(self, channels: int, *, eps: float):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.mean = nnx.Param(jnp.zeros((channels,)))
        self.var = nnx.Param(jnp.ones((channels,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        gain = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.eps)
        offset = self.bias[...] - self.mean[...] * gain
        return x * gain.reshape(1, 1, 1, -1).astype(x.dtype) + offset.reshape(1, 1, 1, -1).astype(x.dtype)


class ConvNorm(nnx.Module):
    """Convolution without bias, frozen BatchNorm, ReLU6 if `activate`; 'same' padding as TensorFlow counts it."""

    def __init__(
        self,
        c: int,
        o: int,
        kernel_size: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        activate: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.activate = activate
        self.window, self.strides = (kernel_size, kernel_size), (stride, stride)
        self.conv = Conv(c, o, kernel_size, stride=stride, use_bias=False, depthwise=depthwise, dtype=dtype, rngs=rngs)
        self.norm = FrozenBatchNorm(o, eps=1e-3)

    def __call__(self, x: jax.Array) -> jax.Array:
        rows, columns = jax.lax.padtype_to_pads(x.shape[1:3], self.window, self.strides, "SAME")
        y = self.norm(self.conv(x, padding=(rows, columns)))
        return jnp.clip(y, 0.0, 6.0) if self.activate else y


class InvertedResidual(nnx.Module):
    """MBConv without squeeze-and-excitation: expand 1x1, depthwise k x k, project 1x1, skip where shapes agree."""

    def __init__(self, c: int, o: int, *, expand: int, kernel_size: int, stride: int, dtype: DTypeLike, rngs: nnx.Rngs):
        hidden = c * expand
        self.expand = ConvNorm(c, hidden, 1, dtype=dtype, rngs=rngs) if expand > 1 else None
        self.depthwise = ConvNorm(
            hidden, hidden, kernel_size, stride=stride, depthwise=True, dtype=dtype, rngs=rngs
        )  # fmt: skip
        self.project = ConvNorm(hidden, o, 1, activate=False, dtype=dtype, rngs=rngs)
        self.residual = stride == 1 and c == o

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class EfficientNetLite0(nnx.Module):
    """EfficientNet-Lite0 up to its last inverted residual; features before each halving and at the end."""

    # expand, kernel size, stride, output channels, repeats (arXiv:1905.11946, table 1; Lite: no SE, ReLU6, fixed stem)
    stages = (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )
    channels = (16, 24, 40, 112, 320)

    def __init__(self, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 32, 3, stride=2, dtype=dtype, rngs=rngs)
        blocks: list[InvertedResidual] = []
        taps = []
        c = 32
        for expand, kernel_size, stride, o, repeats in self.stages:
            if stride == 2:
                taps.append(len(blocks) - 1)
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(
                        c, o, expand=expand, kernel_size=kernel_size, stride=stride if i == 0 else 1, dtype=dtype,
                        rngs=rngs,
                    )
                )  # fmt: skip
                c = o
        self.blocks = nnx.List(blocks)
        self.taps = (*taps, len(blocks) - 1)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """(b, h, w, 3) in [-1, 1] -> five maps at 1/2, 1/4, 1/8, 1/16, 1/32."""
        x = self.stem(x)
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                features.append(x)
        return features


BACKBONES: dict[str, type[VGG16 | AlexNet | EfficientNetLite0]] = {
    "vgg16": VGG16,
    "alexnet": AlexNet,
    "efficientnet_lite0": EfficientNetLite0,
}


class Distance(nnx.Module, abc.ABC):
    """How far apart two images look, by features that are computed once for an image."""

    @abc.abstractmethod
    def features(self, x: Float[Array, "b h w 3"]) -> list[Map]:
        """What is compared of images in [-1, 1]: several maps."""

    @abc.abstractmethod
    def compare(self, a: Sequence[Map], b: Sequence[Map]) -> Float32[Array, " b"]:
        """Distance per pair of features; 0 for equal images."""

    def __call__(self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]) -> Float32[Array, " b"]:
        """Distance per pair of images in [-1, 1]."""
        return self.compare(self.features(a), self.features(b))


class PerceptualDistance(Distance):
    """Distance of two images as a backbone sees them.

    Source: LPIPS (arXiv:1801.03924), eq. 1, with the published non-negative heads for vgg16 and alexnet; without heads
    for efficientnet_lite0: unit-normalised channels, squared difference, mean over positions, mean over five stages.
    """

    def __init__(self, backbone: str, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        if backbone not in BACKBONES:
            raise ValueError(f"unknown perceptual backbone {backbone!r}; known: {', '.join(BACKBONES)}")
        self.backbone = BACKBONES[backbone](dtype=dtype, rngs=rngs)
        self.is_lpips = backbone != "efficientnet_lite0"
        self.heads = (
            nnx.List([nnx.Param(jnp.ones((c,)) / c) for c in self.backbone.channels]) if self.is_lpips else None
        )

    def raw_features(self, x: Float[Array, "b h w 3"]) -> list[Map]:
        """The backbone's five maps of images in [-1, 1]."""
        if self.is_lpips:
            x = (x - jnp.asarray(LPIPS_SHIFT).reshape(1, 1, 1, 3)) / jnp.asarray(LPIPS_SCALE).reshape(1, 1, 1, 3)
        return [f.astype(jnp.float32) for f in self.backbone(x)]

    def features(self, x: Float[Array, "b h w 3"]) -> list[Map]:
        """`raw_features` with channels of unit length."""
        return [_unit(f) for f in self.raw_features(x)]

    def compare(self, a: Sequence[Map], b: Sequence[Map]) -> Float32[Array, " b"]:
        squared = [jnp.square(x - y) for x, y in zip(a, b, strict=True)]
        if self.heads is None:
            return sum((d.sum(axis=-1).mean(axis=(1, 2)) for d in squared), jnp.zeros(())) / len(squared)
        heads = [head[...].reshape(1, 1, 1, -1) for head in self.heads]
        weighted = ((d * w).sum(axis=-1).mean(axis=(1, 2)) for d, w in zip(squared, heads, strict=True))
        return sum(weighted, jnp.zeros(()))


def _unit(x: jax.Array) -> jax.Array:
    # The square root's gradient is infinite at 0, which all-zero ReLU features do reach.
    length = jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-20)
    return x / (length + 1e-10)
