"""Before and after, side by side at full resolution."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from vdiffsr_jax.photos.resample import lanczos

_LARGEST, _HEADER, _GAP = 2048, 20, 4


def sheet(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The input, Lanczos-resampled to the result's size, left of the result: (h, w, 3) uint8.

    Results larger than 2048 pixels show their middle.
    """
    height, width = after.shape[:2]
    rows, columns = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in ((n, min(n, _LARGEST)) for n in (height, width)))
    pair = [_to_8_bits(part[rows, columns]) for part in (lanczos(before, height, width), after)]
    h, w = pair[0].shape[:2]
    canvas = np.full((h + _HEADER, 2 * w + _GAP, 3), 255, np.uint8)
    canvas[_HEADER:, :w], canvas[_HEADER:, w + _GAP :] = pair
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for left, text in ((0, f"input {before.shape[1]}x{before.shape[0]}, Lanczos"), (w + _GAP, "VDiff-SR")):
        draw.text((left + 4, 4), text, fill=(0, 0, 0))
    return np.asarray(image)


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)
