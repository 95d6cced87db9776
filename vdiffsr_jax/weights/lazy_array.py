"""An array that is read when it is needed: files are converted one tensor at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vdiffsr_jax.config import ExpectedError

# RuntimeError is how a zip archive says that a member is encrypted, or compressed in a way it does not know. Some
# Pythons are built without lzma.
_LZMA = getattr(getattr(zipfile, "lzma", None), "LZMAError", zlib.error)
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, _LZMA, ValueError, EOFError, RuntimeError)


class WeightsFileError(ExpectedError, ValueError):
    """A file of weights cannot be read, or must not be trusted; the message names it and says what to do."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What is raised of a file that is not there or damaged as WeightsFileError."""
    try:
        yield
    except WeightsFileError:
        raise
    except OSError as error:
        raise WeightsFileError(f"{path}: {error.strerror or error}") from None
    except _DAMAGED as error:
        raise WeightsFileError(f"{path} is damaged or truncated ({error}); download it again") from None


@dataclasses.dataclass(frozen=True)
class LazyArray:
    """`shape` and `dtype` are known, `read()` makes the numbers anew at every call."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> LazyArray:
        """An array that lies in memory already."""
        return cls(tuple(array.shape), array.dtype, lambda: array)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def astype(self, dtype: Any) -> LazyArray:
        """The same array, cast when it is read; what is too large for the type becomes infinite."""

        def read() -> np.ndarray:
            with np.errstate(over="ignore", invalid="ignore"):
                return self.read().astype(dtype, copy=False)

        return LazyArray(self.shape, np.dtype(dtype), read)

    def laid_out(self, change: Callable[[np.ndarray], np.ndarray]) -> LazyArray:
        """The array in another layout: its shape now, its numbers when they are read. Raises: what `change` does."""
        shape = change(np.broadcast_to(np.zeros((), self.dtype), self.shape)).shape
        return LazyArray(shape, self.dtype, lambda: np.asarray(change(self.read()), order="C"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)
