"""Small photos on disk, each pixel saying where it is: red the photo, green the row, blue the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def coordinates(photo: int, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, photo), rows, columns], axis=-1).astype(np.uint8)


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(image: np.ndarray, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two PNG of 40 x 60 and 120 x 80 (four times the area), and a third below that is too small for 32 pixels."""
    save(coordinates(0, 40, 60), tmp_path / "photos/a.png")
    save(coordinates(1, 120, 80), tmp_path / "photos/deep/er/b.PNG")
    save(coordinates(2, 31, 90), tmp_path / "photos/small.png")
    (tmp_path / "photos/notes.txt").write_text("not a photo")
    return tmp_path / "photos"
