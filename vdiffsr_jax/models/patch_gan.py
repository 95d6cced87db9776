"""Discriminators: PatchGAN judges overlapping patches of pixels, FeatureGAN the maps of a frozen network.

Source: Image-to-Image Translation with Conditional Adversarial Networks (arXiv:1611.07004), section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vdiffsr_jax.models.layers import Conv, GroupNorm
from vdiffsr_jax.ops.conv import Padding

SLOPE = 0.2
KERNEL_INIT = jax.nn.initializers.normal(0.02)
PADDING: Padding = ((1, 1), (1, 1))


def smallest_side(layers: int) -> int:
    """Pixels a side of the smallest picture that a PatchGAN of so many layers takes."""
    return 3 << layers


class PatchGAN(nnx.Module):
    """`layers` 4x4 convolutions of stride 2, one of stride 1 and one to a single map of scores.

    GroupNorm stands where the paper has BatchNorm: no running statistics, and the same score for any batch or number of
    devices. Three layers see patches of 70x70 pixels.
    """

    def __init__(
        self, *, channels: int = 64, layers: int = 3, in_channels: int = 3, dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        if channels % 32:
            raise ValueError(f"the discriminator needs a multiple of 32 channels for GroupNorm, not {channels}")
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]

        def conv(c: int, o: int, stride: int) -> Conv:
            return Conv(c, o, 4, stride=stride, padding=PADDING, kernel_init=KERNEL_INIT, dtype=dtype, rngs=rngs)

        ins = [in_channels, *widths[:-1]]
        strides = [2] * layers + [1]
        self.convs = nnx.List([conv(c, o, s) for c, o, s in zip(ins, widths, strides, strict=True)])
        self.norms = nnx.List([GroupNorm(width, eps=1e-5, num_groups=32, dtype=dtype) for width in widths[1:]])
        self.head = conv(widths[-1], 1, 1)

    def __call__(self, image: Float[Array, "b H W c"]) -> Float32[Array, "b h w 1"]:
        """Images in [-1, 1] -> one score per patch; high means real.

        Raises: ValueError if the image is too small to hold a patch.
        """
        return self.layers(image)[-1]

    def layers(self, image: Float[Array, "b H W c"]) -> list[Float[Array, "b _ _ _"]]:
        """The map after every convolution, the scores last."""
        smallest = smallest_side(len(self.convs) - 1)
        if min(image.shape[1:3]) < smallest:
            raise ValueError(f"the discriminator needs {smallest} pixels a side, not {image.shape[1]}x{image.shape[2]}")
        maps = [jax.nn.leaky_relu(self.convs[0](image), SLOPE)]
        for conv, norm in zip(list(self.convs)[1:], self.norms, strict=True):
            maps.append(jax.nn.leaky_relu(norm(conv(maps[-1])), SLOPE))
        return [*maps, self.head(maps[-1]).astype(jnp.float32)]


class FeatureGAN(nnx.Module):
    """A discriminator on maps of a frozen network: two small convolutions on each, one score per place.

    What the frozen network knows of pictures need not be learned by the discriminator, so it is strong from the first
    step and small.
    Source: Projected GANs (arXiv:2111.01007), section 3, without its random mixing.
    """

    def __init__(
        self, in_channels: Sequence[int], *, channels: int = 64, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):  # fmt: skip
        self.reduce = nnx.List([Conv(c, channels, 1, dtype=dtype, rngs=rngs) for c in in_channels])
        self.head = nnx.List([Conv(channels, 1, 3, dtype=dtype, rngs=rngs) for _ in in_channels])

    def __call__(self, maps: Sequence[Float[Array, "b _ _ _"]]) -> Float32[Array, "b n"]:
        """The frozen maps -> the scores of all places of all maps."""
        return self.layers(maps)[-1]

    def layers(self, maps: Sequence[Float[Array, "b _ _ _"]]) -> list[Float[Array, "b ..."]]:
        """The reduced maps, the scores last."""
        reduced = [jax.nn.leaky_relu(conv(x), SLOPE) for conv, x in zip(self.reduce, maps, strict=True)]
        scores = [head(x).reshape(x.shape[0], -1) for head, x in zip(self.head, reduced, strict=True)]
        return [*reduced, jnp.concatenate(scores, axis=1).astype(jnp.float32)]
