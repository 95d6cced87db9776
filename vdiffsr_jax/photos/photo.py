"""What a photo is here: upright pixels, and everything its file said about them."""

from __future__ import annotations

import dataclasses

import numpy as np

from vdiffsr_jax.config import ExpectedError

MAX_PIXELS = 32_000_000


class ImageError(ExpectedError, ValueError):
    """A photo cannot be read or written; the message says why, without the file's name."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Photo:
    """One photo, upright.

    `color`: (h, w, 3) uint8 or uint16. `alpha`: (h, w) of the same type, not premultiplied. `grey`: the file had one
    channel. `exif`: without orientation and thumbnail. `density`: pixels an inch, across and down. `chunks`: (name,
    data) of a PNG's texts and of its colours where there is no ICC profile. `notes`: what was changed in reading and
    the person should know.
    """

    color: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    density: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits per value: 8 or 16."""
        return self.color.dtype.itemsize * 8

    def rgb8(self) -> np.ndarray:
        """(h, w, 3) uint8, laid on white."""
        return to_8_bits(self.color if self.alpha is None else on_white(self.color, self.alpha))


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint16 0..65535 -> uint8 0..255, to the nearest; uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    out = np.empty(values.shape, np.uint8)
    for row, source in zip(out, values, strict=True):  # row by row: no second picture in 32 bits
        row[...] = (source.astype(np.uint32) * 255 + 32767) // 65535
    return out


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """color (h, w, 3) seen through alpha (h, w) before white, in the type of both."""
    top = np.iinfo(color.dtype).max
    out = np.empty_like(color)
    for row, source, opacity in zip(out, color, alpha, strict=True):
        share = opacity[:, None] / np.float32(top)
        row[...] = np.rint(source * share + top * (1 - share))
    return out


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (h, w, ...) turned and mirrored as EXIF orientation 1..8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
