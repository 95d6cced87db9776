"""The pictures of an evaluation, read one at a time: memory does not grow with their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

# Below this, SSIM's window and AlexNet's strides leave nothing.
LEAST = 64


@dataclasses.dataclass(frozen=True)
class Case:
    """One picture: `hr` (4h, 4w, 3) and, unless only results are compared, `lr` (h, w, 3), uint8."""

    name: str
    hr: np.ndarray
    lr: np.ndarray | None = None

    @property
    def given(self) -> np.ndarray:
        """The LR picture. Raises: ValueError if there is none."""
        if self.lr is None:
            raise ValueError(f"{self.name} has no LR picture")
        return self.lr

    @property
    def bicubic(self) -> np.ndarray:
        """LR enlarged by Pillow's bicubic (a = -0.5), rounded to 8 bits: the baseline."""
        size = (self.hr.shape[1], self.hr.shape[0])
        return np.asarray(Image.fromarray(self.given).resize(size, Image.Resampling.BICUBIC))


@dataclasses.dataclass(frozen=True)
class Cases:
    """`names` of usable pictures; iterating makes each anew with `load`, always the same. `text` says what they are."""

    names: Sequence[str]
    load: Callable[[str], Case]
    text: str
    has_lr: bool = True

    def __iter__(self) -> Iterator[Case]:
        return map(self.load, self.names)

    def __len__(self) -> int:
        return len(self.names)
