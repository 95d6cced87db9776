"""TIFF in and out: pixels by tifffile, the tags that describe the picture byte for byte."""

from __future__ import annotations

import io
import struct
from typing import IO, Any

import numpy as np

from vdiffsr_jax.photos import directories, exif
from vdiffsr_jax.photos.codecs import imagecodecs, tifffile
from vdiffsr_jax.photos.directories import Tags, Value
from vdiffsr_jax.photos.photo import ImageError

XMP, ICC = 700, 34675
_WIDTH, _HEIGHT = 256, 257
_JPEG = (6, 7)
_MOST_CHANNELS = 16


def tags(file: IO[bytes]) -> Tags:
    """Those of the first page that describe the picture, its size, ICC profile and XMP among them.

    Raises: ValueError if there is no directory.
    """
    wanted = exif.DESCRIPTIVE | {exif.ORIENTATION, _WIDTH, _HEIGHT, XMP, ICC}
    return directories.parse(*directories.in_file(file), wanted.__contains__)


def size(found: Tags) -> tuple[int, int]:
    """(height, width) as stored. Raises: ImageError if there are none."""
    height, width = found.number(_HEIGHT), found.number(_WIDTH)
    if not (height and width):
        raise ImageError("says nothing of its size")
    return height, width


def blob(found: Tags, tag: int) -> bytes | None:
    """The bytes of a tag."""
    value = found.first.get(tag)
    return value.data or None if isinstance(value, Value) else None


def described(found: Tags) -> exif.Described:
    """What the tags say as EXIF does."""
    described = {tag: value for tag, value in found.first.items() if tag not in (XMP, ICC)}
    return exif.describe(found._replace(first=described))


def pixels(file: IO[bytes], expected: tuple[int, int]) -> tuple[np.ndarray | None, bool]:
    """((h, w, 1..4) uint8 or uint16 of the first page, whether there are more pages); h and w must be as `expected`.

    The pixels are None where Pillow reads a file better: palettes, bits, YCbCr, CMYK, JPEG inside.

    Raises: ImageError for values that are not of 8 or 16 bits, or a kind that has no faithful RGB form.
    """
    file.seek(0)
    with tifffile().TiffFile(file) as tiff:
        page = tiff.pages.first
        more = any(not other.is_reduced for other in tiff.pages[1:])
        if (page.imagelength, page.imagewidth) != expected or page.samplesperpixel > _MOST_CHANNELS:
            raise ImageError(f"has values in the shape {page.shape}, or tags that contradict one another")
        if page.dtype not in (np.uint8, np.bool_, np.uint16):
            raise ImageError(f"holds {page.dtype} values; 8- and 16-bit images can be upscaled")
        kinds = tifffile().PHOTOMETRIC
        kind = kinds(page.photometric)
        plain = kind in (kinds.RGB, kinds.MINISBLACK, kinds.MINISWHITE)
        if page.dtype != np.uint16 and (not plain or page.bitspersample != 8 or page.compression in _JPEG):
            return None, more
        if page.bitspersample not in (8, 16):
            raise ImageError(f"holds {page.bitspersample}-bit values; 8- and 16-bit images can be upscaled")
        if not plain:
            raise ImageError(f"is a 16-bit {kind.name} TIFF; convert it to RGB or grey first")
        imagecodecs()
        return _straight(page), more


def _straight(page: Any) -> np.ndarray:
    kinds, extra = tifffile().PHOTOMETRIC, page.extrasamples
    values: np.ndarray = page.asarray()
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(*values.shape[:2], -1)
    colors = 3 if page.photometric == kinds.RGB else 1
    if values.ndim != 3 or values.shape[-1] < colors:
        raise ImageError(f"has values in the shape {page.shape}; convert it to RGB or grey first")
    color: np.ndarray = values[..., :colors]
    top = np.iinfo(values.dtype).max
    if page.photometric == kinds.MINISWHITE:
        color = top - color
    if not extra or extra[0] == tifffile().EXTRASAMPLE.UNSPECIFIED:
        return color
    alpha = values[..., colors : colors + 1]
    if extra[0] == tifffile().EXTRASAMPLE.ASSOCALPHA:
        straight = np.rint(color * (np.float32(top) / np.maximum(alpha, 1)))
        color = np.minimum(straight, top).astype(values.dtype)
    return np.concatenate([color, alpha], axis=-1)


def encode(
    values: np.ndarray, about: bytes | None, icc: bytes | None, xmp: bytes | None, density: tuple[float, float] | None
) -> bytes:
    """A TIFF of (h, w), (h, w, 2), (h, w, 3) or (h, w, 4) uint8 or uint16; `about` is EXIF."""
    found = exif.parse(about)
    below = {tag: value for tag, value in found.first.items() if isinstance(value, dict)}
    values_of = {tag: v for tag, v in found.first.items() if isinstance(v, Value) and tag in exif.DESCRIPTIVE}
    for tag in (*exif.RESOLUTION, exif.RESOLUTION_UNIT):
        values_of.pop(tag, None)
    extra: list[tuple[int, int, int, Any, bool]] = [(tag, v.type, 0, v.data, True) for tag, v in values_of.items()]
    if xmp:
        extra.append((XMP, directories.BYTE, len(xmp), xmp, True))
    # tifffile keeps the pointers to sub-directories to itself: a neighbouring number holds the place.
    extra += [(tag - 1, directories.LONG, 1, 0, True) for tag in below]
    channels = 1 if values.ndim == 2 else values.shape[-1]
    imagecodecs()
    buffer = io.BytesIO()
    tifffile().imwrite(
        buffer,
        values,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        predictor=True,
        iccprofile=icc,
        metadata=None,
        software=False,
        extratags=extra,
        byteorder=found.order,
        resolution=density,
        resolutionunit="inch" if density else None,
    )
    for tag, directory in below.items():
        _append_directory(buffer, found.order, tag, directory)
    return buffer.getvalue()


def _append_directory(buffer: io.BytesIO, order: str, tag: int, directory: directories.Directory) -> None:
    """Put a sub-directory at the end of a TIFF and let the tag that holds its place point to it."""
    buffer.seek(0)
    with tifffile().TiffFile(buffer) as tiff:
        place = tiff.pages.first.tags[tag - 1]
    end = buffer.seek(0, io.SEEK_END)
    end += buffer.write(b"\0" * (end % 2))
    buffer.write(directories.encode(directory, order, end))
    buffer.seek(place.offset)
    buffer.write(struct.pack(order + "H", tag))
    buffer.seek(place.valueoffset)
    buffer.write(struct.pack(order + "I", end))
