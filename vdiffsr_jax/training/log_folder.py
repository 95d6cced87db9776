"""Where a run's logs grow: in its directory, or on this machine while a thread ships them to a bucket."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from etils import epath

from vdiffsr_jax.weights import storage

SECONDS = 60  # from one shipping to the next: what a machine that dies takes with it
# An object in a bucket cannot grow. The newest part is written anew until it has this size, the others never again.
PART_BYTES = 1 << 18

_log = logging.getLogger(__name__)


class LogFolder:
    """`folder` is a local folder; what is appended to its files reaches the directory of the run.

    A bucket holds each file as parts NAME.00000, NAME.00001, ...; a part ends where a line or, in TensorBoard's event
    files, a record ends, so every part can be read alone. A continued run adds parts to those that are there.
    """

    def __init__(self, workdir: epath.Path) -> None:
        self._remote = workdir if storage.is_remote(workdir) else None
        self._files: dict[str, _Shipped] = {}
        if self._remote is None:
            self.folder = Path(workdir)
            return
        self.folder = Path(tempfile.mkdtemp(prefix="vdiffsr_log_"))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._ship_now_and_then, name="logs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ship the rest. Raises: OSError that says where the logs are if the bucket does not take them."""
        if self._remote is None:
            return
        self._closing.set()
        self._thread.join()
        try:
            self._ship()
        except Exception as error:
            raise OSError(
                f"{self._remote}: the logs could not be written ({error}); they are in {self.folder}"
            ) from error
        shutil.rmtree(self.folder)

    def _ship_now_and_then(self) -> None:
        while not self._closing.wait(SECONDS):
            try:
                self._ship()
            except Exception as error:  # noqa: BLE001  (every client of a bucket has errors of its own)
                _log.warning("%s: the logs could not be written, trying again (%s)", self._remote, error)

    def _ship(self) -> None:
        assert self._remote is not None
        for file in sorted(self.folder.iterdir()):
            if file.name not in self._files:
                self._files[file.name] = _Shipped(file, self._remote)
            self._files[file.name].ship()


def parts(workdir: epath.Path, name: str) -> list[epath.Path]:
    """What there is of a log, in its order: the file itself where it could grow, its parts in a bucket."""
    whole = workdir / name
    return ([whole] if whole.exists() else []) + sorted(workdir.glob(f"{name}.[0-9]*"))


class _Shipped:
    """One local file and how much of it the bucket has."""

    def __init__(self, file: Path, remote: epath.Path) -> None:
        self._file, self._remote = file, remote
        before = parts(remote, file.name)
        self._number = int(before[-1].name.rpartition(".")[2]) + 1 if before else 0
        self._start = self._end = 0  # of the newest part

    def ship(self) -> None:
        """Write what has been added; memory holds one part at a time."""
        with self._file.open("rb") as file:
            while (end := self._part_end(file)) > self._end:
                file.seek(self._start)
                part = self._remote / f"{self._file.name}.{self._number:05d}"
                part.write_bytes(file.read(end - self._start))
                self._end = end
                if end - self._start >= PART_BYTES:
                    self._start, self._number = end, self._number + 1

    def _part_end(self, file: BinaryIO) -> int:
        file.seek(self._start)
        ends = _record_ends if "tfevents" in self._file.name else _line_ends
        end = self._start
        for end in ends(file):
            if end - self._start >= PART_BYTES:
                break
        return end


def _line_ends(file: BinaryIO) -> Iterator[int]:
    position = file.tell()
    while (line := file.readline()).endswith(b"\n"):
        yield (position := position + len(line))


def _record_ends(file: BinaryIO) -> Iterator[int]:
    """A TFRecord is its length (8 bytes), a checksum of it (4), the data and a checksum (4)."""
    position, size = file.tell(), os.fstat(file.fileno()).st_size
    while len(length := file.read(8)) == 8:
        position += 16 + struct.unpack("<Q", length)[0]
        if position > size:
            return
        yield position
        file.seek(position)
