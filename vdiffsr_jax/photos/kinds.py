"""The kinds of photo files: what their names end in, which are read and which are written here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from PIL import features

EXTENSIONS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
"""What can be written, and what its files are called."""

_HAS_AVIF = features.check("avif")
_HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None
_FORMAT_OF = {suffix: format for format, suffix in EXTENSIONS.items()}
_FORMAT_OF |= {".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".tiff": "tiff"}

SUFFIXES = (*_FORMAT_OF, *((".avif",) if _HAS_AVIF else ()), *((".heic", ".heif") if _HAS_HEIC else ()))
"""What can be read; by content all the same."""

HOW_TO_READ = {".heic": "pip install pillow-heif", ".heif": "pip install pillow-heif", ".avif": "Pillow 11.3 reads it"}
"""Kinds that are read once something is installed."""


def is_photo(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in SUFFIXES


def format_of(path: Path) -> str | None:
    """The format that a file's name asks for, among those that can be written."""
    return _FORMAT_OF.get(path.suffix.lower())


def pillow_formats() -> tuple[str, ...]:
    """The formats that Pillow may open: the trade's, not every one that it knows."""
    more: tuple[str, ...] = ("AVIF",) if _HAS_AVIF else ()
    if _HAS_HEIC:
        import pillow_heif

        pillow_heif.register_heif_opener()
        more += ("HEIF",)
    return ("PNG", "JPEG", "WEBP", "BMP", *more)
