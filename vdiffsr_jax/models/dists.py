"""DISTS: how alike two images are in structure and in texture, by the statistics of VGG16's features.

Source: Ding, Ma, Wang, Simoncelli, Image Quality Assessment: Unifying Structure and Texture Similarity
(arXiv:2004.07728).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vdiffsr_jax.models.perceptual import VGG16, Distance, Map

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_C1 = _C2 = 1e-6
_HANNING = (0.25, 0.5, 0.25)  # of one axis


def l2_pool(x: jax.Array) -> jax.Array:
    """sqrt(g * x^2) at every second position, g the inner 3x3 of a Hanning window of 5; (b, h, w, c) -> halves.

    Source: eq. 3.
    """
    x = jnp.pad(jnp.square(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for axis in (1, 2):
        n = x.shape[axis] - 2
        a, b, c = (w * jax.lax.slice_in_dim(x, k, k + n, 2, axis) for k, w in enumerate(_HANNING))
        x = a + b + c
    return jnp.sqrt(x + 1e-12)


class DISTS(Distance):
    """1 - sum_ij (alpha_ij l(x_ij, y_ij) + beta_ij s(x_ij, y_ij)) over the image itself and five stages of VGG16.

    l and s are SSIM's luminance and structure terms of whole feature maps; sum(alpha) + sum(beta) is scaled to 1.
    Source: eq. 5 to 8.
    """

    def __init__(self, backbone: str = "dists", *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.backbone = VGG16(dtype=dtype, rngs=rngs)
        channels = 3 + sum(VGG16.channels)
        self.alpha = nnx.Param(jnp.full((channels,), 0.1))
        self.beta = nnx.Param(jnp.full((channels,), 0.1))

    def features(self, x: Float[Array, "b h w 3"]) -> list[Map]:
        """The image in [0, 1] and five maps, of images in [-1, 1]."""
        x = (x + 1) / 2
        mean, std = (jnp.asarray(v).reshape(1, 1, 1, 3) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return [f.astype(jnp.float32) for f in (x, *self.backbone((x - mean) / std, pool=l2_pool))]

    def compare(self, a: Sequence[Map], b: Sequence[Map]) -> Float32[Array, " b"]:
        alpha, beta = self.alpha[...], self.beta[...]
        total = alpha.sum() + beta.sum()
        terms = [_statistics(x, y) for x, y in zip(a, b, strict=True)]
        luminance, structure = (jnp.concatenate(term, axis=-1) for term in zip(*terms, strict=True))
        return 1 - (luminance @ alpha + structure @ beta) / total


def _statistics(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """l and s of every channel, (b, c) each."""
    mean_x, mean_y = x.mean(axis=(1, 2), keepdims=True), y.mean(axis=(1, 2), keepdims=True)
    var_x, var_y = jnp.square(x - mean_x).mean(axis=(1, 2)), jnp.square(y - mean_y).mean(axis=(1, 2))
    covariance = ((x - mean_x) * (y - mean_y)).mean(axis=(1, 2))
    mean_x, mean_y = mean_x[:, 0, 0], mean_y[:, 0, 0]
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (var_x + var_y + _C2)
