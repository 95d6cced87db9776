"""Sample grids: one row per held-out image, LR | bicubic | ours | HR, and what a task shows beside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from vdiffsr_jax.photos import sheet

COLUMNS = ("LR", "bicubic", "LR's codes", "ours", "HR's codes", "HR")


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> 0..255."""
    return np.clip(np.round((np.asarray(image, np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)


def draw(columns: Mapping[str, np.ndarray]) -> Image.Image:
    """Columns {title: (n, h, w, 3) in [-1, 1]}; smaller ones are enlarged pixel by pixel to the size of the last."""
    n, height = list(columns.values())[-1].shape[:2]
    shown = {title: [sheet.repeat(image, height // image.shape[0]) for image in to_uint8(column)]
             for title, column in columns.items()}  # fmt: skip
    return sheet.draw([[("" if row else title, images[row]) for title, images in shown.items()] for row in range(n)])
