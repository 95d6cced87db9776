"""What a photo file says about itself, EXIF without its orientation and ICC profile; how PNG and TIFF store it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image, TiffImagePlugin

ORIENTATION = 0x0112
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
_PIXEL_SIZE = (0xA002, 0xA003)
_THUMBNAIL_IFD = 1

# The tags of a TIFF's first directory that describe the picture; all others describe how the file stores it.
_DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, ORIENTATION, EXIF_IFD, GPS_IFD}


def read_exif(exif: Image.Exif, *, from_tiff: bool) -> tuple[bytes | None, int]:
    """(EXIF without its orientation and thumbnail, orientation 1..8) of a photo whose file is still open.

    Raises: whatever the parser raises on damaged EXIF.
    """
    orientation = exif.pop(ORIENTATION, 1)
    if from_tiff:
        for tag in [tag for tag in exif if tag not in _DESCRIPTIVE]:
            del exif[tag]
    for directory in (EXIF_IFD, GPS_IFD):
        exif.get_ifd(directory)
    exif._ifds.pop(_THUMBNAIL_IFD, None)
    data = exif.tobytes() if len(exif) else None
    return data, orientation if orientation in range(1, 9) else 1


def exif_for_size(data: bytes, width: int, height: int) -> bytes:
    """The same EXIF with the pixel dimensions it records set to the upscaled photo's."""
    exif = Image.Exif()
    exif.load(data)
    camera = exif.get_ifd(EXIF_IFD)
    for tag, value in zip(_PIXEL_SIZE, (width, height), strict=True):
        if tag in camera:
            camera[tag] = value
    for tag, value in ((256, width), (257, height)):
        if tag in exif:
            exif[tag] = value
    return exif.tobytes()


def png_chunks(exif: bytes | None, icc: bytes | None) -> bytes:
    """The chunks that go between IHDR and the pixels."""
    chunks = b""
    if icc:
        chunks += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        chunks += _png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return chunks


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff_tags(data: bytes) -> tuple[dict[int, str], dict[int, TiffImagePlugin.ImageFileDirectory_v2]]:
    """(text tags of the first directory, its sub-directories by tag) of EXIF, for a TIFF file."""
    exif = Image.Exif()
    exif.load(data)
    texts = {tag: value for tag, value in exif.items() if tag in _DESCRIPTIVE and isinstance(value, str)}
    directories = {}
    for tag in (EXIF_IFD, GPS_IFD):
        if values := exif.get_ifd(tag):
            directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
            for key, value in _plain(values):
                directory[key] = value
            directories[tag] = directory
    return texts, directories


def _plain(values: dict[int, object]) -> Iterator[tuple[int, object]]:
    """Tags that need no directory of their own and no position in the old file."""
    return ((key, value) for key, value in values.items() if not isinstance(value, dict))
