"""The directories of tags that EXIF and TIFF share, with every value as the bytes that the file holds.

Pillow and tifffile decode texts on the way in and encode them anew on the way out, and so lose what is not ASCII.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import IO, NamedTuple, TypeAlias

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
BYTE, TEXT, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
HEADS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""How a TIFF begins: (byte order, whether it is a BigTIFF)."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", LONG8: "Q"}

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes of the file, fewer at its end."""


class Value(NamedTuple):
    """One tag's value: its TIFF type, and its bytes in the byte order of its file."""

    type: int
    data: bytes


Directory: TypeAlias = dict[int, "Value | Directory"]


class Tags(NamedTuple):
    """The first directory of a file, with those that it points to in the place of the pointers.

    `order` is '<' or '>'. `damaged`: something in it could not be read and is missing here.
    """

    order: str
    first: Directory
    damaged: bool

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The integers of a tag of the first directory; of a rational, numerators and denominators by turns."""
        value = self.first.get(tag)
        if not isinstance(value, Value) or value.type not in _CODES:
            return ()
        code = _CODES[value.type]
        return struct.unpack(f"{self.order}{len(value.data) // struct.calcsize(code)}{code}", value.data)

    def number(self, tag: int, default: int = 0) -> int:
        """The first integer of a tag."""
        return next(iter(self.numbers(tag)), default)


def parse(read: Read, size: int, wanted: Callable[[int], bool] = lambda tag: True) -> Tags:
    """The tags of a TIFF, classic or Big, or of EXIF without its prefix, of `size` bytes.

    Values that are longer together than the file share bytes: it is damaged, or wants to fill the memory.

    Args: wanted: which tags of the first directory to read.
    Raises: ValueError if there is no directory.
    """
    left = size

    def within(start: int, length: int) -> bytes:
        nonlocal left
        data = read(start, min(length, left))
        left -= len(data)
        return data

    head = read(0, 16)
    if head[:4] not in HEADS:
        raise ValueError("has no TIFF header")
    order, big = HEADS[head[:4]]
    try:
        start = struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]
        first, damaged = _directory(within, order, start, big=big, wanted=wanted, depth=0)
    except struct.error as error:
        raise ValueError("has no whole directory") from error
    return Tags(order, first, damaged)


def _directory(
    read: Read, order: str, start: int, *, big: bool, wanted: Callable[[int], bool], depth: int
) -> tuple[Directory, bool]:
    width = 8 if big else 4  # of a count and of an offset
    offset = order + ("Q" if big else "I")
    (count,) = struct.unpack(order + ("Q" if big else "H"), read(start, 8 if big else 2))
    if count > 0xFFFF:
        raise struct.error("a directory of so many tags is none")
    start += 8 if big else 2
    size = 4 + 2 * width
    table = read(start, count * size)
    entries: Directory = {}
    damaged = len(table) < count * size
    for at in range(0, len(table) - size + 1, size):
        tag, kind = struct.unpack_from(order + "HH", table, at)
        if not wanted(tag):
            continue
        (number,) = struct.unpack_from(offset, table, at + 4)
        field = table[at + 4 + width : at + size]
        length = number * _SIZES.get(kind, 0)
        data = field[:length] if length <= width else read(struct.unpack(offset, field)[0], length)
        if kind not in _SIZES or len(data) < length:
            damaged = True
        elif tag in (EXIF, GPS, INTEROPERABILITY) and depth < 2 and length == _SIZES[kind] >= 4:
            (below,) = struct.unpack(order + _CODES[LONG8 if length == 8 else LONG], data)
            try:
                entries[tag], broken = _directory(read, order, below, big=big, wanted=lambda tag: True, depth=depth + 1)
            except struct.error:
                broken = True
            damaged |= broken
        else:
            entries[tag] = Value(kind, data)
    return entries, damaged


def encode(directory: Directory, order: str, place: int) -> bytes:
    """A classic directory whose first byte shall stand at `place` of its file, with those below it."""
    start = place + 2 + 12 * len(directory) + 4
    table, body = bytearray(struct.pack(order + "H", len(directory))), bytearray()
    for tag, value in sorted(directory.items()):
        body += b"\0" * (len(body) % 2)
        if isinstance(value, dict):
            at = start + len(body)
            body += encode(value, order, at)
            value = Value(LONG, struct.pack(order + "I", at))
        elif value.type in (16, 17, 18):  # BigTIFF alone has integers of 64 bits
            numbers = struct.unpack(f"{order}{len(value.data) // 8}Q", value.data)
            value = Value(LONG, struct.pack(f"{order}{len(numbers)}I", *(n & 0xFFFFFFFF for n in numbers)))
        table += struct.pack(order + "HHI", tag, value.type, len(value.data) // _SIZES[value.type])
        if len(value.data) <= 4:
            table += value.data.ljust(4, b"\0")
        else:
            table += struct.pack(order + "I", start + len(body))
            body += value.data
    return bytes(table + bytes(4) + body)


def in_file(file: IO[bytes]) -> tuple[Read, int]:
    """Read of an open file, where a length beyond its end costs no memory; and its size."""
    size = file.seek(0, io.SEEK_END)

    def read(start: int, length: int) -> bytes:
        file.seek(min(start, size))
        return file.read(min(length, size))

    return read, size
