"""EXIF in and out, byte for byte but for what upscaling changes: orientation, thumbnail and sizes."""

from __future__ import annotations

import dataclasses
import re
import struct

from vdiffsr_jax.photos import directories
from vdiffsr_jax.photos.directories import EXIF, GPS, LONG, RATIONAL, SHORT, Directory, Tags, Value, encode

PREFIX = b"Exif\0\0"
ORIENTATION, DESCRIPTION = 0x0112, 270
RESOLUTION, RESOLUTION_UNIT = (282, 283), 296
_INCH, _CENTIMETRE = 2, 3
_PIXEL_SIZE = (0xA002, 0xA003)
# Descriptions that programs write for themselves: of the arrays in a file, no longer true of the result.
_OF_ARRAYS = (b'{"shape"', b"ImageJ=", b"shape=")

# The tags of a TIFF's first directory that describe the picture; all others describe how the file stores it.
DESCRIPTIVE = {
    DESCRIPTION, 271, 272, *RESOLUTION, RESOLUTION_UNIT, 305, 306, 315, 316, 33432, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E,
    0x9C9F, EXIF, GPS,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Described:
    """What EXIF says: itself without orientation and thumbnail, the orientation 1..8 if any, pixels an inch."""

    exif: bytes | None
    orientation: int | None
    density: tuple[float, float] | None
    damaged: bool


def parse(data: bytes | None) -> Tags:
    """The tags of EXIF, with or without its prefix; of none, no tags.

    Raises: ValueError if nothing of it can be read.
    """
    if not data:
        return Tags("<", {}, False)
    data = data.removeprefix(PREFIX)
    return directories.parse(lambda start, length: data[start : start + length], len(data))


def describe(tags: Tags) -> Described:
    """What the tags of EXIF, or the descriptive ones of a TIFF, say."""
    density = _density(tags)
    dropped = (ORIENTATION, 256, 257) if density else (ORIENTATION, 256, 257, *RESOLUTION, RESOLUTION_UNIT)
    kept = {tag: value for tag, value in tags.first.items() if tag not in dropped}
    text = kept.get(DESCRIPTION)
    if isinstance(text, Value) and text.data.startswith(_OF_ARRAYS):
        del kept[DESCRIPTION]
    orientation = tags.number(ORIENTATION, 0)
    return Described(
        exif=_file(kept, tags.order) if kept else None,
        orientation=orientation if orientation in range(1, 9) else None,
        density=density,
        damaged=tags.damaged,
    )


def for_size(exif: bytes, width: int, height: int) -> bytes:
    """The same EXIF with the pixel dimensions it records set to the upscaled photo's."""
    tags = parse(exif)
    camera = tags.first.get(EXIF)
    if isinstance(camera, dict):
        sizes = zip(_PIXEL_SIZE, (width, height), strict=True)
        changed = {tag: Value(LONG, struct.pack(tags.order + "I", size)) for tag, size in sizes if tag in camera}
        return _file(tags.first | {EXIF: camera | changed}, tags.order)
    return exif


def with_density(exif: bytes | None, density: tuple[float, float]) -> bytes:
    """EXIF that also gives the pixels an inch, unless it does already."""
    tags = parse(exif)
    if _density(tags) is not None:
        assert exif is not None
        return exif
    added: Directory = {RESOLUTION_UNIT: Value(SHORT, struct.pack(tags.order + "H", _INCH))}
    for tag, value in zip(RESOLUTION, density, strict=True):
        added[tag] = Value(RATIONAL, struct.pack(tags.order + "II", round(value * 10000), 10000))
    return _file(tags.first | added, tags.order)


def _density(tags: Tags) -> tuple[float, float] | None:
    unit = {_INCH: 1.0, _CENTIMETRE: 2.54}.get(tags.number(RESOLUTION_UNIT, _INCH))
    found = [tags.numbers(tag)[:2] for tag in RESOLUTION]
    if unit is None or any(len(pair) < 2 or not all(pair) for pair in found):
        return None
    across, down = (above * unit / below for above, below in found)
    return across, down


def _file(directory: Directory, order: str) -> bytes:
    header = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order]
    return PREFIX + header + encode(directory, order, 8)


_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))([2-8])')


def xmp_orientation(xmp: bytes) -> int:
    """The orientation 1..8 that XMP gives."""
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[2]) if found else 1


def upright_xmp(xmp: bytes) -> bytes:
    """XMP of the same photo, turned."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
