"""What every method gets and is judged on: centre crops of photos, degraded the same way each time."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vdiffsr_jax.data.config import PRESETS
from vdiffsr_jax.data.degradation import degrade
from vdiffsr_jax.evaluation.cases import LEAST, Case, Cases
from vdiffsr_jax.evaluation.pairs import SCALE, Failed, usable
from vdiffsr_jax.photos.photo import ImageError
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling.files import by_stem, find, printable

DEGRADATIONS = {
    "fixed": "Gaussian blur sigma 1.5, antialiased bicubic x1/4, Gaussian noise sigma 5 of 255 (in two of five photos "
    "the same in all channels), JPEG quality 60",
    "bicubic": "antialiased bicubic x1/4 alone",
    "mild": "one stage: Gaussian blur sigma 0.5..2.2, antialiased x1/4, Gaussian noise sigma 0..8, JPEG 50..95",
    "realesrgan": "Real-ESRGAN's two stages with ResShift's ranges",
    "paired": "LR as given (--lr)",
}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """`crop`: HR pixels a side at most, or None. `degradation`: one of DEGRADATIONS. `seed`: of the degradations."""

    crop: int | None = 512
    degradation: str = "fixed"
    seed: int = 0

    def case(self, name: str, photo: np.ndarray, lr: np.ndarray | None = None) -> Case:
        """The centre of a photo (h, w, 3) uint8 and its LR: made here, or cut from a given one at the same place.

        The random numbers depend on the seed and on the name without its extension, not on the other photos.

        Raises: ImageError if the photo is too small, or a given LR is not a quarter of its size.
        """
        s = SCALE
        height, width = (n // s for n in photo.shape[:2])
        if lr is not None and lr.shape[:2] != (height, width):
            raise ImageError(
                f"has {photo.shape[1]} x {photo.shape[0]} pixels: its LR should have {width} x {height}, "
                f"not {lr.shape[1]} x {lr.shape[0]}"
            )
        h, w = (n if self.crop is None else min(n, self.crop // s) for n in (height, width))
        if min(h, w) * s < LEAST:
            raise ImageError(f"is too small: {photo.shape[1]} x {photo.shape[0]} pixels, at least {LEAST} a side")
        top, left = (height - h) // 2, (width - w) // 2
        hr = np.ascontiguousarray(photo[s * top : s * (top + h), s * left : s * (left + w)])
        if lr is not None:
            return Case(name, hr, np.ascontiguousarray(lr[top : top + h, left : left + w]))
        rng = np.random.default_rng([self.seed, zlib.crc32(Path(name).with_suffix("").as_posix().encode())])
        return Case(name, hr, degrade(hr, PRESETS[self.degradation], rng, scale=s))

    def describe(self, photos: Sequence[str]) -> str:
        """The protocol in sentences, so that a table can be made again."""
        cut = "whole" if self.crop is None else f"centre crops of at most {self.crop} x {self.crop} pixels"
        return (
            f"{len(photos)} photos, {cut}. Degradation `{self.degradation}`: {DEGRADATIONS[self.degradation]}; seed "
            f"{self.seed}. Bicubic: a = -0.5. Photos: {', '.join(photos)}."
        )


def read_cases(photos: str, protocol: Protocol, *, lr: str | None = None, failed: Failed) -> Cases:
    """Every usable photo of a folder, file or glob; `failed(name, kind of fault, why)` is told of the others.

    Args: lr: where the LR halves lie, for degradation `paired`: files of the same name, whatever the extension.
    Raises: UsageError if there are no photos.
    """
    halves = by_stem(lr) if lr is not None else None
    files = {printable(relative): (path, relative) for path, relative in find(photos)}

    def load(name: str) -> Case:
        path, relative = files[name]
        half = None if halves is None else read(_partner(halves, relative), max_pixels=None).rgb8()
        return protocol.case(name, read(path, max_pixels=None).rgb8(), half)

    def look(name: str) -> None:
        load(name)

    names = usable(files, look, failed, "unusable")
    return Cases(names, load, protocol.describe(names))


def _partner(halves: Mapping[str, Sequence[Path]], relative: Path) -> Path:
    found = halves.get(printable(relative.with_suffix("")), [])
    if len(found) != 1:
        raise ImageError(f"has {len(found)} LR files of its name (--lr)")
    return found[0]
