"""Photo files out: encoded in memory, written under a temporary name, renamed when whole."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vdiffsr_jax.photos import exif, icc, png, tiff
from vdiffsr_jax.photos.photo import ImageError, Photo, on_white, to_8_bits

Parts = Sequence[bytes | memoryview]  # of a file
Announce = Callable[[Path], None]  # is given a whole file just before it takes its name
_LONGEST_SIDE = {"jpeg": 65_500, "webp": 16_383}
_LONGEST_NAME = 255
# Pixels an inch: 16 bits of whole ones; 31 bits of pixels a metre; fractions of 32 bits, WebP's in ten-thousandths.
_DENSITIES = {"jpeg": (1, 65_535), "png": (0, 5e7), "bmp": (0, 5e7), "webp": (0, 429_496), "tiff": (0, 4e9)}
# What a JPEG has room for in one segment.
_LARGEST_EXIF, _LARGEST_XMP = 65_533, 65_502


def write(
    path: Path, photo: Photo, format: str, *, quality: int = 95, announce: Announce = lambda file: None
) -> tuple[str, ...]:
    """Write a photo; what the format cannot hold is reduced, and said.

    PNG holds everything, TIFF all but a PNG's own texts and colours. JPEG and BMP have no alpha (flattened on white),
    WebP, JPEG and BMP have 8 bits (rounded); BMP has neither EXIF nor XMP nor ICC profile. `quality` 1..100 is for JPEG
    and WebP (WebP: 100 is lossless). `announce`: see `write_whole`.

    Returns: a note for each reduction.
    Raises: ImageError if the format cannot hold the size, or the file cannot be written; nothing is left behind then.
    """
    photo, notes = reduce(photo, format)
    height, width = photo.color.shape[:2]
    check(path, height, width, format)
    write_whole(path, encode(photo, format, quality), announce)
    return notes


def check(path: Path, height: int, width: int, format: str) -> None:
    """Refuse what would fail in the end, before the work. Raises: ImageError."""
    limit = _LONGEST_SIDE.get(format)
    if limit and max(height, width) > limit:
        raise ImageError(f"{width} x {height} pixels are more than {format} holds ({limit} a side); use --format png")
    length = len(os.fsencode(path.name))
    if length > _LONGEST_NAME:
        raise ImageError(f"its result's name would have {length} bytes; {_LONGEST_NAME} are the most: {path.name}")


def write_whole(path: Path, parts: Parts, announce: Announce = lambda file: None) -> None:
    """Write a file so that it appears whole or not at all; `announce` gets the whole file just before.

    A file in a bucket (an epath.Path) is made on this machine first.
    Raises: ImageError naming the cause.
    """
    if "://" in os.fspath(path):
        _upload(path, parts, announce)
        return
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
        announce(partial)
        os.replace(partial, path)
    except OSError as error:
        cause = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise ImageError(f"cannot be written to {path}: {cause}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _upload(path: Path, parts: Parts, announce: Announce) -> None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / path.name
            whole.write_bytes(b"".join(parts))
            announce(whole)
            path.write_bytes(whole.read_bytes())
    except Exception as error:  # every client of a bucket has errors of its own
        raise ImageError(f"cannot be written to {path}: {str(error) or type(error).__name__}") from error


def reduce(photo: Photo, format: str) -> tuple[Photo, tuple[str, ...]]:
    """The photo as `format` can hold it, and a note for each thing given up."""
    notes = []
    least, most = _DENSITIES[format]
    if photo.depth == 16 and format not in ("png", "tiff"):
        alpha = None if photo.alpha is None else to_8_bits(photo.alpha)
        photo = dataclasses.replace(photo, color=to_8_bits(photo.color), alpha=alpha)
        notes.append(f"{format} has 8 bits: rounded from 16")
    if photo.alpha is not None and format in ("jpeg", "bmp"):
        photo = dataclasses.replace(photo, color=on_white(photo.color, photo.alpha), alpha=None)
        notes.append(f"{format} has no alpha: flattened on white")
    if format == "bmp" and (photo.exif or photo.icc or photo.xmp):
        photo = dataclasses.replace(photo, exif=None, icc=None, xmp=None)
        notes.append("bmp has neither EXIF nor XMP nor ICC profile: dropped")
    if format == "webp" and photo.grey and photo.icc and icc.space(photo.icc) == "GRAY":
        photo, note = _colored(photo)
        notes.append(note)
    if format != "png" and photo.chunks:
        notes += _lost_chunks(photo, format)
        photo = dataclasses.replace(photo, chunks=())
    if photo.density and not all(least <= value <= most for value in photo.density):
        across, down = photo.density
        notes.append(f"{format} has no room for {across:g} x {down:g} pixels an inch: dropped")
        photo = dataclasses.replace(photo, density=None)
    if format == "jpeg":
        if photo.exif and len(photo.exif) > _LARGEST_EXIF:
            photo = dataclasses.replace(photo, exif=None)
            notes.append("jpeg has no room for so much EXIF: dropped")
        if photo.xmp and len(photo.xmp) > _LARGEST_XMP:
            photo = dataclasses.replace(photo, xmp=None)
            notes.append("jpeg has no room for so much XMP: dropped")
    return photo, tuple(notes)


def _colored(photo: Photo) -> tuple[Photo, str]:
    """A grey photo with a profile of grey as RGB, which is all that WebP has."""
    assert photo.icc is not None
    grey = Image.fromarray(_channels(dataclasses.replace(photo, alpha=None)))
    converted = icc.to_srgb(grey, photo.icc)
    if converted is None:
        return dataclasses.replace(photo, icc=None), "webp has no grey: its grey ICC profile was dropped"
    changed = dataclasses.replace(photo, color=np.asarray(converted), grey=False, icc=icc.srgb())
    return changed, "webp has no grey: converted to sRGB by its ICC profile"


def _lost_chunks(photo: Photo, format: str) -> list[str]:
    notes = []
    if photo.icc is None and png.colors_differ(photo.chunks):
        notes.append(
            f"{format} has no gAMA, cHRM and cICP: dropped, its colours pass for sRGB; --format png keeps them"
        )
    if words := png.keywords(photo.chunks):
        notes.append(f"{format} has none of PNG's texts: {', '.join(words)} dropped")
    return notes


def encode(photo: Photo, format: str, quality: int) -> list[bytes | memoryview]:
    """The bytes of the file, in parts. The photo must be one that `format` can hold (see `reduce`)."""
    height, width = photo.color.shape[:2]
    about = exif.for_size(photo.exif, width, height) if photo.exif else None
    pixels = _channels(photo)
    if format == "png":
        return png.encode(pixels, png.told(photo, about and about.removeprefix(exif.PREFIX)))
    if format == "tiff":
        return [tiff.encode(pixels, about, photo.icc, photo.xmp, photo.density)]
    image = Image.fromarray(pixels)
    extra: dict[str, object] = {}
    if format == "jpeg":
        extra = {"quality": quality, "subsampling": 0 if quality >= 90 else 2}
    elif format == "webp":
        if image.mode in ("L", "LA"):
            image = image.convert("RGB" if image.mode == "L" else "RGBA")
        extra = {"quality": quality, "lossless": quality == 100, "exact": True}
        if photo.density:  # it has no other place for it
            about = exif.with_density(about, photo.density)
    elif format == "bmp":
        extra = {"dpi": (0, 0)}  # Pillow writes 96 otherwise
    told = {"exif": about, "icc_profile": photo.icc, "xmp": photo.xmp, "dpi": photo.density}
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **extra | {name: value for name, value in told.items() if value})
    except (ValueError, OSError) as error:
        raise ImageError(f"cannot be encoded as {format}: {error}") from error
    return [buffer.getbuffer()]


def _channels(photo: Photo) -> np.ndarray:
    """(h, w), (h, w, 2), (h, w, 3) or (h, w, 4): grey comes back as BT.601 luma of the upscaled colour."""
    color = photo.color
    if photo.grey:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        rows = [np.rint(row.astype(np.float32) @ weights) for row in color]
        color = np.stack(rows).astype(color.dtype)[..., None]
    pixels = color if photo.alpha is None else np.concatenate([color, photo.alpha[..., None]], axis=-1)
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
