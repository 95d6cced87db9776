"""Photo files out: encoded in memory, written under a temporary name, renamed when whole."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from vdiffsr_jax.photos import metadata
from vdiffsr_jax.photos.read import ImageError, Photo

EXTENSIONS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
_LONGEST_SIDE = {"jpeg": 65_500, "webp": 16_383}
_PNG_LEVEL = 4


def write(path: Path, photo: Photo, format: str, *, quality: int = 95) -> tuple[str, ...]:
    """Write a photo; what the format cannot hold is reduced, and said.

    PNG and TIFF hold everything. JPEG and BMP have no alpha (flattened on white) and WebP, JPEG and BMP have 8 bits
    (rounded); BMP has neither EXIF nor ICC profile. `quality` 1..100 is for JPEG and WebP (WebP: 100 is lossless).

    Returns: a note for each reduction.
    Raises: ImageError if the format cannot hold the size, or the file cannot be written; nothing is left behind then.
    """
    photo, notes = reduce(photo, format)
    height, width = photo.color.shape[:2]
    limit = _LONGEST_SIDE.get(format)
    if limit and max(height, width) > limit:
        raise ImageError(f"{width} x {height} pixels are more than {format} holds ({limit} a side); use --format png")
    write_whole(path, encode(photo, format, quality))
    return notes


def write_whole(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write a file so that it appears whole or not at all.

    Raises: ImageError naming the cause.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
        os.replace(partial, path)
    except OSError as error:
        cause = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise ImageError(f"cannot be written to {path}: {cause}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def reduce(photo: Photo, format: str) -> tuple[Photo, tuple[str, ...]]:
    """The photo as `format` can hold it, and a note for each thing given up."""
    notes = []
    if photo.depth == 16 and format not in ("png", "tiff"):
        alpha = None if photo.alpha is None else _to_8_bits(photo.alpha)
        photo = dataclasses.replace(photo, color=_to_8_bits(photo.color), alpha=alpha)
        notes.append(f"{format} has 8 bits: rounded from 16")
    if photo.alpha is not None and format in ("jpeg", "bmp"):
        opacity = photo.alpha[..., None] / np.float32(255)
        flat = np.rint(photo.color * opacity + 255 * (1 - opacity)).astype(np.uint8)
        photo = dataclasses.replace(photo, color=flat, alpha=None)
        notes.append(f"{format} has no alpha: flattened on white")
    if format == "bmp" and (photo.exif or photo.icc):
        photo = dataclasses.replace(photo, exif=None, icc=None)
        notes.append("bmp has neither EXIF nor ICC profile: dropped")
    return photo, tuple(notes)


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    return np.stack([((row.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8) for row in values])


def encode(photo: Photo, format: str, quality: int) -> list[bytes | memoryview]:
    """The bytes of the file, in parts. The photo must be one that `format` can hold (see `reduce`)."""
    height, width = photo.color.shape[:2]
    exif = metadata.exif_for_size(photo.exif, width, height) if photo.exif else None
    pixels = _channels(photo)
    if format == "png":
        data = memoryview(imagecodecs.png_encode(pixels, level=_PNG_LEVEL))
        after_header = 8 + 25
        return [data[:after_header], metadata.png_chunks(exif, photo.icc), data[after_header:]]
    if format == "tiff":
        return [_tiff(pixels, exif, photo.icc)]
    image = Image.fromarray(pixels)
    extra: dict[str, object] = {}
    if format == "jpeg":
        extra = {"quality": quality, "subsampling": 0 if quality >= 90 else 2}
    elif format == "webp":
        if image.mode in ("L", "LA"):
            image = image.convert("RGB" if image.mode == "L" else "RGBA")
        extra = {"quality": quality, "lossless": quality == 100, "exact": True}
    if exif:
        extra["exif"] = exif
    if photo.icc:
        extra["icc_profile"] = photo.icc
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **extra)
    except (ValueError, OSError) as error:  # such as EXIF longer than a JPEG segment
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


def _tiff(pixels: np.ndarray, exif: bytes | None, icc: bytes | None) -> bytes:
    texts, directories = metadata.tiff_tags(exif) if exif else ({}, {})
    named = {name: texts.pop(tag, None) for tag, name in ((270, "description"), (305, "software"), (306, "datetime"))}
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    tags: list[tuple] = [(tag, 2, 0, text, True) for tag, text in texts.items()]
    # tifffile keeps the pointers to sub-directories to itself: a neighbouring number holds the place.
    tags += [(tag - 1, 4, 1, 0, True) for tag in directories]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        predictor=True,
        iccprofile=icc,
        metadata=None,
        extratags=tags,
        byteorder="<",
        description=named["description"],
        software=named["software"] or False,
        datetime=named["datetime"],
    )
    for tag, directory in directories.items():
        _append_directory(buffer, tag, directory)
    return buffer.getvalue()


def _append_directory(buffer: io.BytesIO, tag: int, directory: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Put a sub-directory at the end of a TIFF and let the tag that holds its place point to it."""
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tiff:
        place = tiff.pages.first.tags[tag - 1]
    end = buffer.seek(0, io.SEEK_END)
    end += buffer.write(b"\0" * (end % 2))
    buffer.write(directory.tobytes(end))
    buffer.seek(place.offset)
    buffer.write(struct.pack("<H", tag))
    buffer.seek(place.valueoffset)
    buffer.write(struct.pack("<I", end))
