"""Where a tensor of torch.save lies: a storage is a run of numbers in the file, a view some of them in an order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vdiffsr_jax.weights.lazy_array import WeightsFileError


@dataclasses.dataclass
class Storage:
    """A run of numbers in the file; `dtype` is None where the tensor says it, `start` until its place is known."""

    nbytes: int
    dtype: np.dtype | None
    start: int | None = None


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor's place: `extent` elements from the `offset`-th of its storage hold all of it."""

    source: Path | bytes
    storage: Storage
    offset: int
    extent: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, dtype: np.dtype, big_endian: bool) -> np.ndarray:
        """The tensor, read-only. Raises: WeightsFileError if the file has lost its end since."""
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)
        assert self.storage.start is not None
        count = self.extent * dtype.itemsize
        start = self.storage.start + self.offset * dtype.itemsize
        if isinstance(self.source, bytes):
            raw = np.frombuffer(self.source, np.uint8, count, start).copy()
        else:
            raw = np.fromfile(self.source, np.uint8, count, offset=start)
        if raw.size != count:
            raise WeightsFileError(f"{self.source!s} became shorter while it was read")
        run = raw.view(dtype)
        if big_endian:
            run.view(f"u{dtype.itemsize}").byteswap(inplace=True)
        strides = tuple(step * dtype.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(run, self.shape, strides, writeable=False)
