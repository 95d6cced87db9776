"""What PNG needs beyond Pillow: its chunks as they are, and 16 bits a value."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from vdiffsr_jax.photos.codecs import imagecodecs
from vdiffsr_jax.photos.photo import Photo

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLORS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\0"
_OLD_EXIF = b"Raw profile type exif\0"
_LARGEST_CHUNK = 1 << 24
_LEVEL = 4
_AFTER_HEADER = 8 + 25
_METRES = 0.0254


def chunks(file: IO[bytes]) -> list[tuple[bytes, bytes]]:
    """(name, data) of the chunks that describe the picture, wherever they stand; the file stays where it was."""
    before = file.tell()
    found: list[tuple[bytes, bytes]] = []
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (*COLORS, *TEXTS, b"eXIf", b"pHYs", b"tRNS") and length < _LARGEST_CHUNK:
            data = file.read(length)
            if len(data) == length:
                found.append((name, data))
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)
    file.seek(before)
    return found


def exif(found: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """EXIF of a chunk of its own, or of the text in which ImageMagick used to put it."""
    for name, data in found:
        if name == b"eXIf":
            return data
        if name == b"zTXt" and data.startswith(_OLD_EXIF):
            lines = _inflated(data[len(_OLD_EXIF) + 1 :]).split(b"\n")
            return bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
    return None


def xmp(found: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """XMP as its iTXt chunk holds it."""
    for name, data in found:
        if name == b"iTXt" and data.startswith(_XMP):
            compressed, rest = data[len(_XMP)], data[len(_XMP) + 2 :]
            text = rest.split(b"\0", 2)[2]  # after language and translated keyword
            return _inflated(text) if compressed else text
    return None


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _LARGEST_CHUNK)


def density(found: Sequence[tuple[bytes, bytes]]) -> tuple[float, float] | None:
    """Pixels an inch."""
    for name, data in found:
        if name == b"pHYs" and len(data) == 9:
            across, down, unit = struct.unpack(">IIB", data)
            if unit == 1 and across and down:
                return across * _METRES, down * _METRES
    return None


def kept(found: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The colours and texts that go into the result as they are."""
    return tuple(
        (name, data)
        for name, data in found
        if name in COLORS or (name in TEXTS and not data.startswith((_XMP, _OLD_EXIF)))
    )


def keywords(kept: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """What the texts are called."""
    return [data.partition(b"\0")[0].decode("latin-1") for name, data in kept if name in TEXTS]


def colors_differ(kept: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the chunks of colour say anything but sRGB."""
    plain = {b"gAMA": struct.pack(">I", 45455), b"cICP": b"\x01\x0d\0\x01"}
    plain[b"cHRM"] = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    names = {name for name, _ in kept}
    return b"sRGB" not in names and any(name in COLORS and data != plain.get(name) for name, data in kept)


def decode_16(data: bytes) -> np.ndarray:
    """(h, w, 1..4) uint16 of a PNG of 16 bits; a transparent colour becomes alpha."""
    pixels: np.ndarray = imagecodecs().png_decode(data)
    return pixels.reshape(*pixels.shape[:2], -1)


def encode(pixels: np.ndarray, parts: Iterator[tuple[bytes, bytes]]) -> list[bytes | memoryview]:
    """The file, in parts: the chunks stand between the header and the pixels."""
    data = memoryview(imagecodecs().png_encode(pixels, level=_LEVEL))
    return [data[:_AFTER_HEADER], b"".join(chunk(name, content) for name, content in parts), data[_AFTER_HEADER:]]


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def told(photo: Photo, exif: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of everything that a photo says besides its pixels; `exif` without its prefix."""
    yield from photo.chunks
    if photo.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc)
    if photo.density:
        yield b"pHYs", struct.pack(">IIB", *(round(value / _METRES) for value in photo.density), 1)
    if photo.xmp:
        yield b"iTXt", _XMP + bytes(4) + photo.xmp
    if exif:
        yield b"eXIf", exif
