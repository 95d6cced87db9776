"""Folders and growing files that may be local or in a bucket (gs://)."""

from __future__ import annotations

import os
import time

from etils import epath

from vdiffsr_jax.config import ConfigError

REMOTE_SECONDS = 60  # an object in a bucket cannot grow: it is written anew, at most this often


def place(path: str | os.PathLike[str]) -> epath.Path:
    """The path, absolute if it is local. Raises: ConfigError if it is in a bucket and nothing here can open buckets."""
    found = epath.Path(path)
    if not is_remote(found):
        return found.absolute()
    try:
        found.exists()
    except ImportError as error:
        raise ConfigError(f"{path}: {error} (pip install gcsfs)") from None
    return found


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path names a bucket."""
    return "://" in os.fspath(path)


class GrowingFile:
    """Bytes added to the end of a file; what is there already stays."""

    def __init__(self, path: epath.Path, *, remote: bool | None = None):
        self.path = path
        self.remote = is_remote(path) if remote is None else remote
        if self.remote:
            self.content = path.read_bytes() if path.exists() else b""
            self.written = time.monotonic()
        else:
            self.file = open(path, "ab", buffering=0)  # noqa: SIM115  (it lives as long as the run)

    def write(self, data: bytes) -> None:
        """Add bytes; others see them at once, in a bucket within REMOTE_SECONDS. Raises: OSError naming it."""
        if not self.remote:
            try:
                self.file.write(data)
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fspath(self.path)) from None
            return
        self.content += data
        if time.monotonic() - self.written >= REMOTE_SECONDS:
            self._upload()

    def _upload(self) -> None:
        self.path.write_bytes(self.content)
        self.written = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        if self.remote:
            self._upload()
        else:
            self.file.close()
