"""PSNR and SSIM on luma, as super-resolution papers report them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.metrics.precision import in_float64
from vdiffsr_jax.ops import precision

LUMA = np.array([65.481, 128.553, 24.966])  # BT.601, studio swing
PEAK = 255.0
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
_BAND = 512


def luma(image: np.ndarray, *, rounded: bool = False) -> np.ndarray:
    """Y = 16 + 65.481 R + 128.553 G + 24.966 B with RGB in [0, 1]: BT.601 studio swing, 16..235, float64.

    Args: image: (h, w, 3) uint8 or uint16. rounded: to whole numbers, as MATLAB's rgb2ycbcr gives of uint8.
    """
    y = np.stack([16.0 + row @ (LUMA / np.iinfo(image.dtype).max) for row in image])
    return np.round(y) if rounded else y


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """10 log10(255^2 / mean((a - b)^2)) of two maps; infinite if equal.

    Raises: ValueError if the shapes differ.
    """
    _check_shapes(a, b)
    return float(_psnr(a, b))


@in_float64
def _psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    difference = a.astype(jnp.float64) - b.astype(jnp.float64)
    return 10 * jnp.log10(PEAK**2 / jnp.mean(difference**2))


def eight_bit(image: jax.Array) -> jax.Array:
    """[-1, 1] -> whole numbers in 0..255, float32."""
    return jnp.round((jnp.clip(image, -1, 1) + 1) * 127.5)


def psnr_y(a: jax.Array, b: jax.Array) -> jax.Array:
    """`psnr` of the `luma` of 8-bit images within a compiled program, (b, h, w, 3) in [-1, 1] -> (b,) float32."""
    difference = eight_bit(a) - eight_bit(b)
    with precision.exact():
        mse = jnp.square(difference @ (jnp.array(LUMA) / 255)).mean(axis=(1, 2))
    return 10 * jnp.log10(PEAK**2 / jnp.maximum(mse, 1e-10))


def ssim(a: np.ndarray, b: np.ndarray, *, clipped: bool = False) -> float:
    """Mean structural similarity of two maps (h, w): Gaussian window 11x11, sigma 1.5, only where it fits whole.

    Args: clipped: a negative contrast-structure term counts as 0, as pyiqa has it.
    Raises: ValueError if the shapes differ or a side is below 11.
    Source: Wang et al., Image Quality Assessment (2004), eq. 13; C1 = (0.01 255)^2, C2 = (0.03 255)^2.
    """
    _check_shapes(a, b)
    if min(a.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} pixels a side; got {a.shape[0]}x{a.shape[1]}")
    rows = a.shape[0] - SSIM_WINDOW + 1
    bands = (slice(start, min(start + _BAND, rows) + SSIM_WINDOW - 1) for start in range(0, rows, _BAND))
    total = sum(float(_similarity(a[band], b[band], clipped=clipped)) for band in bands)
    return float(total / (rows * (a.shape[1] - SSIM_WINDOW + 1)))


@in_float64
def _similarity(a: jax.Array, b: jax.Array, *, clipped: bool) -> jax.Array:
    """The sum over a band."""
    a, b = a.astype(jnp.float64), b.astype(jnp.float64)
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    covariance = _window(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return jnp.sum(luminance * (jnp.maximum(structure, 0) if clipped else structure))


def _window(x: jax.Array) -> jax.Array:
    """Gaussian weighted mean around every pixel whose window lies inside."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    kernel /= kernel.sum()
    for _ in range(2):
        n = x.shape[0] - SSIM_WINDOW + 1
        x = sum(float(k) * x[i : i + n] for i, k in enumerate(kernel)).T  # type: ignore[union-attr]
    return x


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} cannot be compared")
