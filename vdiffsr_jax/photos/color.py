"""Colour correction of a result by its own LR image, on the host and in bands: no second float copy of the picture."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from vdiffsr_jax.config import COLOR_FIXES
from vdiffsr_jax.photos.resample import cubic_rows

_LEVELS = 5
_HALO = 2 * (2**_LEVELS - 1)  # of two smoothings
_BAND = 256
_AROUND = 2


def fix(hr: np.ndarray, lr: np.ndarray, method: str) -> np.ndarray:
    """The result with the colours of its LR image.

    wavelet: hr - low(hr) + low(lr upscaled), low = five a-trous [1 2 1]/4 smoothings of spacing 1, 2, 4, 8, 16.
    Not in the source: what clipping takes from a pure colour is given back once to the low frequencies; and where the
    LR image has one colour all around, there is no detail to restore, and the result is the LR upscaled.
    adain: (hr - mean(hr)) / std(hr) * std(lr) + mean(lr), per channel.

    Args: hr: (s h, s w, 3) and lr: (h, w, 3), both uint8 or both uint16.
    Raises: ValueError for an unknown method.
    Source: StableSR (arXiv:2305.07015), colour correction; AdaIN (arXiv:1703.06868), eq. 8.
    """
    if method not in COLOR_FIXES:
        raise ValueError(f"color_fix={method!r} must be one of {', '.join(COLOR_FIXES)}")
    if method == "none":
        return hr
    bands = _wavelet(hr, lr) if method == "wavelet" else _adain(hr, lr)
    out, top = np.empty_like(hr), np.iinfo(hr.dtype).max
    for start, rows in bands:
        out[start : start + len(rows)] = np.rint(np.clip(rows, 0, top))
    return out


def _wavelet(hr: np.ndarray, lr: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    height, scale, detailed = hr.shape[0], hr.shape[0] // lr.shape[0], _detailed(lr)
    for start in range(0, height, _BAND):
        stop = min(start + _BAND, height)
        first, last = max(start - _HALO, 0), min(stop + _HALO, height)
        inside = slice(start - first, stop - first)
        upscaled = cubic_rows(lr.astype(np.float32), scale, first, last)
        corrected = hr[first:last] + _smooth(upscaled - hr[first:last])
        kept = np.clip(corrected, 0, np.iinfo(hr.dtype).max)
        lost = corrected - kept
        if lost.any():
            kept += _smooth(lost)
        weight = np.clip(cubic_rows(detailed, scale, first, last), 0, 1)
        yield start, (upscaled + weight * (kept - upscaled))[inside]


def _detailed(lr: np.ndarray) -> np.ndarray:
    """(h, w, 1) float32: 0 where the colours of 5x5 pixels lie within a level of 8 bits, 1 from four levels on."""
    low = high = lr
    for axis in (0, 1):
        low = functools.reduce(np.minimum, (_moved(low, d, axis) for d in range(-_AROUND, _AROUND + 1)))
        high = functools.reduce(np.maximum, (_moved(high, d, axis) for d in range(-_AROUND, _AROUND + 1)))
    levels = (high - low).max(axis=2, keepdims=True) * np.float32(255 / np.iinfo(lr.dtype).max)
    weights: np.ndarray = np.clip((levels - 1) / 3, 0, 1)
    return weights


def _smooth(x: np.ndarray) -> np.ndarray:
    """Low frequencies of (h, w, c)."""
    for level in range(_LEVELS):
        step = 2**level
        for axis in (0, 1):
            x = 0.5 * x + 0.25 * (_moved(x, -step, axis) + _moved(x, step, axis))
    return x


def _moved(x: np.ndarray, by: int, axis: int) -> np.ndarray:
    """What lies `by` pixels further along the axis; the edge is repeated."""
    n = x.shape[axis]
    moved: np.ndarray = np.take(x, np.clip(np.arange(n) + by, 0, n - 1), axis)
    return moved


def _adain(hr: np.ndarray, lr: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    (mean, std), (lr_mean, lr_std) = _moments(hr), _moments(lr)
    gain = (lr_std / np.maximum(std, 1e-5)).astype(np.float32)
    offset = (lr_mean - mean * gain).astype(np.float32)
    for start in range(0, hr.shape[0], _BAND):
        yield start, hr[start : start + _BAND] * gain[None, None] + offset[None, None]


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, in float64."""
    total, squares = np.zeros(3), np.zeros(3)
    for row in image:
        row = row.astype(np.float64)
        total += row.sum(0)
        squares += (row * row).sum(0)
    count = image.shape[0] * image.shape[1]
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
