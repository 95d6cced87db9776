"""HR to LR: blur, resize, noise and JPEG in one or two stages, every random number from one generator.

Images are float32 (h, w, 3) in [0, 1] inside, uint8 outside. Source: Real-ESRGAN (arXiv:2107.10833) with ResShift's
ranges (arXiv:2307.12348).
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from vdiffsr_jax.data import filters, kernels
from vdiffsr_jax.data.config import DegradationConfig, StageConfig

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def degrade(hr: np.ndarray, cfg: DegradationConfig, rng: np.random.Generator, *, scale: int = 4) -> np.ndarray:
    """LR of an HR image (h, w, 3) uint8, both sides multiples of `scale`: (h / scale, w / scale, 3) uint8.

    Raises: ValueError if a side is not a multiple of `scale`.
    """
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"an HR image of {width} x {height} pixels does not divide by {scale}")
    image = hr.astype(np.float32) / 255
    if cfg.sharpen:
        image = unsharp(image)
    for stage in cfg.stages:
        if rng.random() < stage.prob:
            size = (height // scale, width // scale) if stage.of_lr else image.shape[:2]
            image = _stage(image, stage, cfg.resizes, size, rng)
    jpeg_last = rng.random() < cfg.jpeg_last_prob
    if cfg.jpeg and not jpeg_last:
        image = jpeg(image, _quality(rng, cfg.jpeg))
    image = filters.resize(image, height // scale, width // scale, str(rng.choice(cfg.resizes)))
    if rng.random() < cfg.sinc_prob:
        image = filters.blur(image, kernels.draw_sinc(rng, cfg.sinc_sizes))
    if cfg.jpeg and jpeg_last:
        image = jpeg(image, _quality(rng, cfg.jpeg))
    return to_uint8(image)


def _stage(
    image: np.ndarray, cfg: StageConfig, resizes: tuple[str, ...], size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    if rng.random() < cfg.blur.prob:
        image = filters.blur(image, kernels.draw_blur(rng, cfg.blur))
    low, high = cfg.resize
    kind = rng.choice(3, p=cfg.resize_prob)
    factor = (rng.uniform(1, max(1, high)), rng.uniform(min(1, low), 1), 1.0)[kind]
    height, width = (max(1, int(n * factor)) for n in size)
    image = np.clip(filters.resize(image, height, width, str(rng.choice(resizes))), 0, 1)
    gaussian, gray = rng.random() < cfg.gaussian_prob, rng.random() < cfg.gray_prob
    if gaussian:
        image = gaussian_noise(image, rng.uniform(*cfg.gaussian), rng, gray=gray)
    else:
        image = poisson_noise(image, rng.uniform(*cfg.poisson), rng, gray=gray)
    return jpeg(image, _quality(rng, cfg.jpeg)) if cfg.jpeg else image


def _quality(rng: np.random.Generator, jpeg: tuple[int, ...]) -> int:
    return int(rng.integers(jpeg[0], jpeg[1], endpoint=True))


def gaussian_noise(image: np.ndarray, sigma: float, rng: np.random.Generator, *, gray: bool) -> np.ndarray:
    """Add normal noise of `sigma` grey levels (of 255), clipped to [0, 1]; `gray`: the same in all channels."""
    shape = (*image.shape[:2], 1) if gray else image.shape
    noise = rng.standard_normal(shape, np.float32) * np.float32(sigma / 255)
    noisy: np.ndarray = np.clip(image + noise, 0, 1)
    return noisy


def poisson_noise(image: np.ndarray, scale: float, rng: np.random.Generator, *, gray: bool) -> np.ndarray:
    """Add `scale` times shot noise, clipped to [0, 1].

    A full-scale pixel counts n photons, n the number of grey levels in the image rounded up to a power of two.
    """
    signal = (image @ _LUMA)[..., None] if gray else image
    levels = np.rint(np.clip(signal, 0, 1) * 255).astype(np.uint8)
    photons = 2.0 ** math.ceil(math.log2(np.count_nonzero(np.bincount(levels.ravel(), minlength=256))))
    expected = levels.astype(np.float32) / 255
    noise = rng.poisson(expected * photons).astype(np.float32) / np.float32(photons) - expected
    return np.clip(image + np.float32(scale) * noise, 0, 1)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Through a real JPEG file with halved chroma (4:2:0); rounded to 8 bits on the way."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(buffer, "jpeg", quality=quality, subsampling=2)
    buffer.seek(0)
    return np.asarray(Image.open(buffer)).astype(np.float32) / 255


def unsharp(image: np.ndarray, *, weight: float = 0.5, size: int = 51, threshold: float = 10) -> np.ndarray:
    """Sharpen where a pixel differs from its surroundings by more than `threshold` grey levels, softly masked."""
    kernel = kernels.generalized_gaussian(kernels.mahalanobis(size, size / 6, size / 6, 0.0), 1.0)
    detail = image - filters.blur(image, kernel)
    mask = filters.blur((np.abs(detail) * 255 > threshold).astype(np.float32), kernel)
    sharp: np.ndarray = mask * np.clip(image + weight * detail, 0, 1) + (1 - mask) * image
    return sharp


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[0, 1] to 0..255, clipped and rounded."""
    levels: np.ndarray = np.rint(np.clip(image, 0, 1) * 255)
    return levels.astype(np.uint8)
