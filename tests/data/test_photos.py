from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import coordinates, noise, save
from vdiffsr_jax.data import photos
from vdiffsr_jax.data.photos import Broken, Cache
from vdiffsr_jax.photos.photo import ImageError


def test_orientation_is_applied_to_size_and_pixels(tmp_path: Path):
    image = coordinates(9, 20, 30)
    exif = Image.Exif()
    exif[274] = 6  # rotate by 90 degrees clockwise to see it upright
    path = save(image, tmp_path / "turned.png", exif=exif)
    assert photos.size(path) == (30, 20)
    np.testing.assert_array_equal(photos.decode(path), np.rot90(image, -1))


def test_transparency_lies_on_white_and_grey_becomes_rgb(tmp_path: Path):
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (photos.decode(save(clear, tmp_path / "clear.png")) == 255).all()
    grey = save(np.full((4, 4), 7, np.uint8), tmp_path / "grey.png")
    np.testing.assert_array_equal(photos.decode(grey), np.full((4, 4, 3), 7))
    deep = save(np.full((4, 4), 0x8040, np.uint16), tmp_path / "deep.png")
    np.testing.assert_array_equal(photos.decode(deep), np.full((4, 4, 3), 0x80))


def test_a_photo_comes_from_bytes_too():
    buffer = io.BytesIO()
    Image.fromarray(coordinates(1, 8, 9)).save(buffer, "png")
    assert photos.size(buffer.getvalue()) == (8, 9)
    np.testing.assert_array_equal(photos.decode(buffer.getvalue()), coordinates(1, 8, 9))


@pytest.mark.parametrize("content", [b"", b"not a photo", b"\x89PNG\r\n\x1a\n\0\0"])
def test_foreign_files_are_broken_photos(tmp_path: Path, content: bytes):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for read in (photos.size, photos.decode):
        with pytest.raises(ImageError):
            read(path)


def test_the_limit_of_size_names_no_flag_that_training_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photos, "_MAX_PIXELS", 99)
    with pytest.raises(ImageError, match=r"the limit is 9.9e-05$"):
        photos.decode(save(noise(0, 10, 10), tmp_path / "a.png"))


def test_broken_photos_are_named_once_even_from_another_process(caplog: pytest.LogCaptureFixture):
    broken = Broken()
    with caplog.at_level(logging.WARNING):
        broken.report("a.jpg", "truncated")
        pickle.loads(pickle.dumps(broken)).report("a.jpg", "truncated")
        broken.report("b.jpg", "empty")
    assert [record.getMessage() for record in caplog.records] == ["skipping a.jpg: truncated", "skipping b.jpg: empty"]
    assert broken.count == 2


def test_cache_drops_the_least_recently_used_within_its_bytes():
    cache, reads = Cache(250), []

    def get(key: str) -> None:
        cache.get(key, lambda: reads.append(key) or np.zeros(100, np.uint8))

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert reads == ["a", "b", "c", "b"]
    cache.get("huge", lambda: np.zeros(300, np.uint8))
    get("a")
    assert reads == ["a", "b", "c", "b"]
