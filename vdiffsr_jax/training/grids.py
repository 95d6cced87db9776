"""Sample grids: one row per held-out image, LR | bicubic | ours | HR, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS = ("LR", "bicubic", "ours", "HR")
_GAP, _HEADER = 4, 18


def to_uint8(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> 0..255."""
    return np.clip(np.round((np.asarray(image, np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)


def draw(columns: Mapping[str, np.ndarray]) -> Image.Image:
    """Columns {title: (n, h, w, 3) in [-1, 1]}; smaller ones are enlarged pixel by pixel to the size of the last."""
    n, height, width = list(columns.values())[-1].shape[:3]
    sheet = Image.new("RGB", (len(columns) * (width + _GAP) - _GAP, _HEADER + n * (height + _GAP) - _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for c, (title, column) in enumerate(columns.items()):
        x = c * (width + _GAP)
        draw.text((x + 2, 2), title, fill="black", font=font)
        for r, image in enumerate(to_uint8(column)):
            tile = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (x, _HEADER + r * (height + _GAP)))
    return sheet


def png(image: Image.Image) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
