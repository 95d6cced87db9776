"""Resampling of NHWC maps as two small matrix products, rows then columns.

One matrix per axis says exactly which input pixel counts how much, the same on every device and for every size.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32

from vdiffsr_jax.ops.kernels import cubic, tent

MODES = ("bicubic", "bilinear", "area")
Map = Float[Array, "batch height width channels"]
Resized = Float[Array, "batch {size[0]} {size[1]} channels"]


@functools.lru_cache(maxsize=256)
def resize_matrix(n_in: int, n_out: int, mode: str) -> Float32[np.ndarray, "{n_out} {n_in}"]:
    """Weights W of one axis, out = W in, read-only; rows sum to one.

    bicubic: cubic convolution with a = -0.75, half-pixel centres, no antialias, edge pixels repeated. bilinear: with a
    tent. area: adaptive average pooling, bin i covers floor(i n_in / n_out) .. ceil((i + 1) n_in / n_out).

    Raises: ValueError for an unknown mode or a size below one.
    """
    if mode not in MODES:
        raise ValueError(f"unknown resize mode {mode!r}; known: {', '.join(MODES)}")
    if n_in < 1 or n_out < 1:
        raise ValueError(f"cannot resize {n_in} pixels to {n_out}")
    weights = np.zeros((n_out, n_in), np.float64)
    if mode == "area":
        for i in range(n_out):
            start, stop = i * n_in // n_out, -(-(i + 1) * n_in // n_out)
            weights[i, start:stop] = 1 / (stop - start)
    else:
        centre = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
        if mode == "bilinear":
            centre = np.clip(centre, 0, n_in - 1)
        first = np.floor(centre).astype(int)
        kernel, reach = (cubic, 2) if mode == "bicubic" else (tent, 1)
        for tap in range(1 - reach, 1 + reach):
            pixel = np.clip(first + tap, 0, n_in - 1)
            np.add.at(weights, (np.arange(n_out), pixel), kernel(centre - (first + tap)))
    weights = weights.astype(np.float32)
    weights.flags.writeable = False
    return weights


def bicubic(x: Map, size: tuple[int, int]) -> Resized:
    """Cubic convolution, a = -0.75, half-pixel centres, no antialias; values may overshoot."""
    return _resize(x, size, "bicubic")


def bilinear(x: Map, size: tuple[int, int]) -> Resized:
    """Half-pixel centres, no antialias."""
    return _resize(x, size, "bilinear")


def area(x: Map, size: tuple[int, int]) -> Resized:
    """Adaptive average pooling; bins overlap where the sizes do not divide."""
    return _resize(x, size, "area")


def _resize(x: jax.Array, size: tuple[int, int], mode: str) -> jax.Array:
    if x.shape[1:3] == tuple(size):
        return x
    rows, cols = (jnp.asarray(resize_matrix(n, m, mode)) for n, m in zip(x.shape[1:3], size, strict=True))
    high = lax.Precision.HIGHEST
    y = jnp.einsum("Hh,bhwc->bHwc", rows, x.astype(jnp.float32), precision=high)
    return jnp.einsum("Ww,bHwc->bHWc", cols, y, precision=high).astype(x.dtype)
