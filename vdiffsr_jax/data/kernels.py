"""Blur kernels of the Real-ESRGAN degradation (arXiv:2107.10833, section 3.2), each (size, size), summing to one."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from vdiffsr_jax.data.config import BlurConfig

SHAPES = (
    "gaussian",
    "gaussian_anisotropic",
    "generalized",
    "generalized_anisotropic",
    "plateau",
    "plateau_anisotropic",
)


def draw_blur(rng: np.random.Generator, cfg: BlurConfig) -> np.ndarray:
    """A random blur kernel, (size, size) float32, size drawn from `cfg.sizes`."""
    size = int(rng.choice(cfg.sizes))
    if rng.random() < cfg.sinc_prob:
        return sinc(size, rng.uniform(math.pi / 3 if size < 13 else math.pi / 5, math.pi))
    shape = SHAPES[rng.choice(len(SHAPES), p=cfg.shape_prob)]
    sigma_x = sigma_y = rng.uniform(*cfg.sigma)
    angle = 0.0
    if shape.endswith("_anisotropic"):
        sigma_y, angle = rng.uniform(*cfg.sigma), rng.uniform(-math.pi, math.pi)
    radius = mahalanobis(size, sigma_x, sigma_y, angle)
    if shape.startswith("gaussian"):
        return generalized_gaussian(radius, 1.0)
    if shape.startswith("generalized"):
        return generalized_gaussian(radius, _beta(rng, *cfg.beta_generalized))
    return plateau(radius, _beta(rng, *cfg.beta_plateau))


def draw_sinc(rng: np.random.Generator, sizes: tuple[int, ...]) -> np.ndarray:
    """The random final sinc: cutoff uniform in pi/3..pi."""
    return sinc(int(rng.choice(sizes)), rng.uniform(math.pi / 3, math.pi))


def _beta(rng: np.random.Generator, low: float, high: float) -> float:
    """Below and above one with equal chance, where the range has both."""
    if low < 1 < high:
        return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
    return rng.uniform(low, high)


def mahalanobis(size: int, sigma_x: float, sigma_y: float, angle: float) -> np.ndarray:
    """Squared distance of every pixel from the centre, x^T S^-1 x with S = R diag(sigma^2) R^T, (size, size)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    squared: np.ndarray = (along / sigma_x) ** 2 + (across / sigma_y) ** 2
    return squared


def generalized_gaussian(radius: np.ndarray, beta: float) -> np.ndarray:
    """exp(-r^beta / 2) of the squared distance r; beta = 1 is the Gaussian."""
    return _normalised(np.exp(-0.5 * radius**beta))


def plateau(radius: np.ndarray, beta: float) -> np.ndarray:
    """1 / (1 + r^beta) of the squared distance r."""
    return _normalised(1 / (1 + radius**beta))


def sinc(size: int, cutoff: float) -> np.ndarray:
    """Circular low-pass w J1(w r) / (2 pi r), cutoff w in radians a pixel: it rings beside edges.

    Source: Real-ESRGAN, eq. 6.
    """
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    r = np.hypot(x, y)
    r[r == 0] = 1e-9
    return _normalised(cutoff * special.j1(cutoff * r) / (2 * math.pi * r))


def _normalised(kernel: np.ndarray) -> np.ndarray:
    normalised: np.ndarray = (kernel / kernel.sum()).astype(np.float32)
    return normalised
