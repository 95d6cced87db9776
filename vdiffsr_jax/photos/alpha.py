"""Transparency: what hides behind it must not bleed into the picture, and its edges must not ring."""

from __future__ import annotations

import numpy as np

from vdiffsr_jax.photos.resample import lanczos


def fill_hidden(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colour with that of wholly transparent pixels taken from the nearest visible ones.

    A pyramid of means over the visible pixels; every hidden pixel takes the finest level that knows a colour there.

    Args: color: (h, w, 3) uint8 or uint16; alpha: (h, w) of the same type.
    Returns: the same array if nothing, or everything, is hidden.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return color
    levels = [np.concatenate([color * visible[..., None], visible[..., None]], axis=-1, dtype=np.float32)]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(_halved(levels[-1]))
    known = _mean(levels[-1])
    for level in reversed(levels[:-1]):
        height, width = level.shape[:2]
        below = known.repeat(2, axis=0)[:height].repeat(2, axis=1)[:, :width]
        known = np.where(level[..., 3:] > 0, _mean(level), below)
    return np.where(visible[..., None], color, np.rint(known).astype(color.dtype))


def _halved(sums: np.ndarray) -> np.ndarray:
    """Sums over squares of 2 x 2; an odd edge stands alone."""
    height, width = sums.shape[:2]
    even = np.pad(sums, ((0, height % 2), (0, width % 2), (0, 0)))
    summed: np.ndarray = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return summed


def _mean(sums: np.ndarray) -> np.ndarray:
    mean: np.ndarray = sums[..., :3] / np.maximum(sums[..., 3:], 1)
    return mean


def resize(alpha: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lanczos, kept between the least and the greatest of the 3 x 3 pixels around: sharp, without ringing.

    Args: alpha: (h, w) uint8 or uint16. Returns: (height, width) of the same type.
    """
    resized = lanczos(alpha, height, width)
    if height <= alpha.shape[0] or width <= alpha.shape[1]:
        return resized
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(alpha, 1, mode="edge"), (3, 3))
    rows, columns = (np.arange(n) * m // n for n, m in ((height, alpha.shape[0]), (width, alpha.shape[1])))
    low, high = (bound[rows][:, columns] for bound in (windows.min((2, 3)), windows.max((2, 3))))
    kept: np.ndarray = np.clip(resized, low, high)
    return kept
