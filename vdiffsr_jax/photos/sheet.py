"""Pictures beside one another under their labels, as one picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vdiffsr_jax.photos.photo import to_8_bits
from vdiffsr_jax.photos.resample import lanczos

GAP, LABEL = 4, 18
_LARGEST = 2048


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """The centre (at most size, at most size, ...) of an image, which it does not keep in memory."""
    rows, columns = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in ((n, min(n, size)) for n in image.shape[:2]))
    return image[rows, columns].copy()


def repeat(image: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel as a square of `factor` pixels: what a small image really holds."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def draw(table: Sequence[Iterable[tuple[str, np.ndarray]]]) -> Image.Image:
    """Rows of (label, (h, w, 3) uint8), columns as wide as their widest cell; a row without labels has no band."""
    font, rows = ImageFont.load_default(12), [list(row) for row in table]
    columns = max(len(row) for row in rows)
    widths = [max(row[c][1].shape[1] for row in rows if c < len(row)) for c in range(columns)]
    bands = [LABEL if any(label for label, _ in row) else 0 for row in rows]
    heights = [band + max(cell.shape[0] for _, cell in row) for band, row in zip(bands, rows, strict=True)]
    lefts, tops = (np.cumsum([0, *(n + GAP for n in sizes)]) for sizes in (widths, heights))
    sheet = Image.new("RGB", (int(lefts[-1]) - GAP, int(tops[-1]) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for row, top, band in zip(rows, tops, bands, strict=False):
        for (label, cell), left, width in zip(row, lefts, widths, strict=False):
            pen.text((int(left) + 2, int(top) + 2), _fitting(label, width - 4, font), fill="black", font=font)
            sheet.paste(Image.fromarray(cell), (int(left), int(top) + band))
    return sheet


def before_and_after(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The input, Lanczos-resampled to the result's size, left of the result: (h, w, 3) uint8.

    Results larger than 2048 pixels show their middle.
    """
    enlarged = lanczos(before, *after.shape[:2])
    title = f"input {before.shape[1]}x{before.shape[0]}, Lanczos"
    pair = ((title, enlarged), ("VDiff-SR", after))
    return np.asarray(draw([[(label, to_8_bits(middle(image, _LARGEST))) for label, image in pair]]))


def png(image: Image.Image) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text
