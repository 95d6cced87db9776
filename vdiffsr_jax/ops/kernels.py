"""Resampling kernels, of numpy alone: worker processes that read photos import no jax."""

from __future__ import annotations

import numpy as np


def cubic(t: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Cubic convolution at distances t in pixels, zero from 2 on; the sharper, the lower `a`.

    Source: R. Keys, Cubic Convolution Interpolation (1981), eq. 15 (where a = -0.5).
    """
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def tent(t: np.ndarray) -> np.ndarray:
    """Linear interpolation at distances t in pixels, zero from 1 on."""
    weight: np.ndarray = np.maximum(1 - np.abs(t), 0.0)
    return weight
