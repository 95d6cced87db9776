"""Resampling of pictures on the host, band by band: what is shown beside, or applied after, the network's x4."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vdiffsr_jax.ops.kernels import cubic


def cubic_rows(image: np.ndarray, scale: int, start: int, stop: int) -> np.ndarray:
    """Rows start..stop of an image (h, w, c) upscaled by the network's own bicubic (a = -0.75), float32.

    Four taps an axis, half-pixel centres, edge pixels repeated, values may overshoot.
    """
    rows, row_weights = _cubic_taps(image.shape[0], scale, start, stop)
    columns, column_weights = _cubic_taps(image.shape[1], scale, 0, image.shape[1] * scale)
    tall = sum(image[rows[:, k]] * row_weights[:, k, None, None] for k in range(4))
    return np.asarray(sum(tall[:, columns[:, k]] * column_weights[None, :, k, None] for k in range(4)), np.float32)


def _cubic_taps(length: int, scale: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels and float32 weights, both (stop - start, 4)."""
    centre = (np.arange(start, stop) + 0.5) / scale - 0.5
    first = np.floor(centre).astype(int)[:, None] + np.arange(-1, 3)[None]
    return np.clip(first, 0, length - 1), cubic(centre[:, None] - first).astype(np.float32)


def lanczos(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w) or (h, w, c), uint8 or uint16, by Lanczos-3 with antialias when it shrinks; rounded and clipped."""
    if image.shape[:2] == (height, width):
        return image
    if image.ndim == 3:
        out = np.empty((height, width, image.shape[2]), image.dtype)
        for channel in range(image.shape[2]):
            out[..., channel] = lanczos(image[..., channel], height, width)
        return out
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    resized = Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
    whole: np.ndarray = np.rint(np.clip(np.asarray(resized), 0, np.iinfo(image.dtype).max)).astype(image.dtype)
    return whole
