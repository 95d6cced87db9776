"""A sheet of crops to judge by eye: LR | bicubic | each model | HR, a row a photo, every cell under its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP, _LABEL = 4, 18


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """The centre (at most size, at most size, 3) of an image."""
    rows, columns = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in ((n, min(n, size)) for n in image.shape[:2]))
    return image[rows, columns]


def repeat(image: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel as a square of `factor` pixels: what LR really holds."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def draw(rows: Sequence[Mapping[str, np.ndarray]]) -> Image.Image:
    """Rows {label: (h, w, 3) uint8}, cells of a row in its order; columns as wide as their widest cell."""
    font = ImageFont.load_default(12)
    widths = [max(cell.shape[1] for cell in column) for column in zip(*(row.values() for row in rows), strict=True)]
    heights = [max(cell.shape[0] for cell in row.values()) for row in rows]
    lefts = np.cumsum([0, *(width + _GAP for width in widths)])
    tops = np.cumsum([0, *(_LABEL + height + _GAP for height in heights)])
    sheet = Image.new("RGB", (int(lefts[-1]) - _GAP, int(tops[-1]) - _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, top in zip(rows, tops, strict=False):
        for (label, cell), left, width in zip(row.items(), lefts, widths, strict=False):
            pen.text((int(left) + 2, int(top) + 2), _fitting(label, width - 4, font), fill="black", font=font)
            sheet.paste(Image.fromarray(cell), (int(left), int(top) + _LABEL))
    return sheet


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text
