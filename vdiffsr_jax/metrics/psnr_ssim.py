"""PSNR and SSIM on luma, as super-resolution papers report them."""

from __future__ import annotations

import numpy as np

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
_BAND = 512


def luma(image: np.ndarray) -> np.ndarray:
    """Y = 16 + 65.481 R + 128.553 G + 24.966 B with RGB in [0, 1]: BT.601 studio swing, 16..235, float64, not rounded.

    Args: image: (h, w, 3) uint8 or uint16.
    """
    weights = np.array([65.481, 128.553, 24.966]) / np.iinfo(image.dtype).max
    return np.stack([16.0 + row @ weights for row in image])


def psnr(a: np.ndarray, b: np.ndarray, *, peak: float = 255.0) -> float:
    """10 log10(peak^2 / mean((a - b)^2)) of two maps; infinite if equal.

    Raises: ValueError if the shapes differ.
    """
    _check_shapes(a, b)
    mse = np.mean((a.astype(np.float64) - b) ** 2)
    return float("inf") if mse == 0 else float(10 * np.log10(peak**2 / mse))


def ssim(a: np.ndarray, b: np.ndarray, *, peak: float = 255.0) -> float:
    """Mean structural similarity of two maps (h, w): Gaussian window 11x11, sigma 1.5, only where it fits whole.

    Raises: ValueError if the shapes differ or a side is below 11.
    Source: Wang et al., Image Quality Assessment (2004), eq. 13; C1 = (0.01 peak)^2, C2 = (0.03 peak)^2.
    """
    _check_shapes(a, b)
    if min(a.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} pixels a side; got {a.shape[0]}x{a.shape[1]}")
    rows = a.shape[0] - SSIM_WINDOW + 1
    bands = (slice(start, min(start + _BAND, rows) + SSIM_WINDOW - 1) for start in range(0, rows, _BAND))
    total = sum(_similarity(a[band].astype(np.float64), b[band].astype(np.float64), peak).sum() for band in bands)
    return float(total / (rows * (a.shape[1] - SSIM_WINDOW + 1)))


def _similarity(a: np.ndarray, b: np.ndarray, peak: float) -> np.ndarray:
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    covariance = _window(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (var_a + var_b + c2)


def _window(x: np.ndarray) -> np.ndarray:
    """Gaussian weighted mean around every pixel whose window lies inside."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    kernel /= kernel.sum()
    for _ in range(2):
        n = x.shape[0] - SSIM_WINDOW + 1
        x = sum((k * x[i : i + n] for i, k in enumerate(kernel)), np.zeros((n, x.shape[1]))).T
    return x


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} cannot be compared")
