"""Photo files to upright RGB arrays: sizes from headers, pixels on demand, and one voice for the broken ones."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.photos.read import read, read_size

log = logging.getLogger(__name__)

_MAX_PIXELS = 180_000_000


class DataError(ExpectedError, RuntimeError):
    """The data cannot be used; the message says which file or setting and what to do."""


size = read_size  # upright (height, width) from the header alone; raises ImageError


def decode(data: Path | bytes) -> np.ndarray:
    """Upright pixels, (h, w, 3) uint8; transparency is laid on white. Raises: ImageError if it is broken."""
    return read(data, max_pixels=_MAX_PIXELS).rgb8()


class Broken:
    """Broken photos of one run, each named once and counted over all threads and worker processes of a machine."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="vdiffsr-broken-")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def report(self, name: str, reason: object) -> None:
        """Name a photo in the log unless somebody already has."""
        marker = os.path.join(self.folder, hashlib.sha1(os.fsencode(name)).hexdigest())
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except (FileExistsError, FileNotFoundError):
            return
        log.warning("skipping %s: %s", os.fsencode(name).decode("utf-8", "backslashreplace"), reason)

    @property
    def count(self) -> int:
        """How many have been named."""
        return len(os.listdir(self.folder))

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, (self.folder,)


def _shared(folder: str) -> Broken:
    """A worker's view of the same broken photos; only their maker removes the folder."""
    broken = Broken.__new__(Broken)
    broken.folder = folder
    return broken


class Cache:
    """Decoded photos, the least recently used dropped first, within a number of bytes; safe for threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self._lock = threading.Lock()
        self._photos: OrderedDict[Any, np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, key: Any, read: Callable[[], np.ndarray]) -> np.ndarray:
        """The photo under `key`, from `read()` if it is not here."""
        with self._lock:
            if key in self._photos:
                self._photos.move_to_end(key)
                return self._photos[key]
        photo = read()
        with self._lock:
            if key not in self._photos and photo.nbytes <= self.max_bytes:
                self._photos[key] = photo
                self._bytes += photo.nbytes
                while self._bytes > self.max_bytes:
                    self._bytes -= self._photos.popitem(last=False)[1].nbytes
        return photo

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.max_bytes = state["max_bytes"]
        self._clear()
