"""TensorBoard event files, written without TensorBoard: records of the protocol-buffer message `Event`.

Format: TFRecord (length, masked CRC-32C of it, data, masked CRC-32C of that) around tensorflow/core/util/event.proto.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_CASTAGNOLI = 0x82F63B78


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """One TFRecord."""

    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _event(step: int, content: bytes) -> bytes:
    return _varint(1 << 3 | 1) + struct.pack("<d", time.time()) + _int(2, step) + content


class EventFile:
    """Appends to one new file per start of a run; TensorBoard reads all of a directory."""

    def __init__(self, directory: Path):
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.file = open(directory / name, "ab", buffering=0)  # noqa: SIM115  (it lives as long as the run)
        self._write(0, _bytes(3, b"brain.Event:2"))

    def _write(self, step: int, content: bytes) -> None:
        self.file.write(record(_event(step, content)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        points = (_bytes(1, name.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", v) for name, v in values.items())
        self._write(step, _bytes(5, b"".join(_bytes(1, point) for point in points)))

    def image(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        """A PNG of (height, width) under a name."""
        image = _int(1, size[0]) + _int(2, size[1]) + _int(3, 3) + _bytes(4, png)
        self._write(step, _bytes(5, _bytes(1, _bytes(1, name.encode()) + _bytes(4, image))))

    def close(self) -> None:
        """Close the file."""
        self.file.close()
