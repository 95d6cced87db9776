"""Where a tensor of torch.save lies: a storage is a run of numbers in the file, a view some of them in an order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vdiffsr_jax.weights.lazy_array import WeightsFileError

Axes = tuple[int, ...]  # a number for each axis of a tensor


@dataclasses.dataclass
class Storage:
    """A run of numbers in the file; `dtype` is None where the tensor says it, `start` until its place is known."""

    nbytes: int
    dtype: np.dtype | None
    start: int | None = None

    def read(
        self, source: Path | bytes, extent: slice, shape: Axes, stride: Axes, dtype: np.dtype, *, big_endian: bool
    ) -> np.ndarray:
        """The tensor of these axes, read-only; the elements `extent` of the storage hold all of it.

        Raises: WeightsFileError if the file has lost its end since.
        """
        if 0 in shape:
            return np.zeros(shape, dtype)
        assert self.start is not None
        count, start = (extent.stop - extent.start) * dtype.itemsize, self.start + extent.start * dtype.itemsize
        if isinstance(source, bytes):
            raw = np.frombuffer(source, np.uint8, count, start).copy()
        else:
            raw = np.fromfile(source, np.uint8, count, offset=start)
        if raw.size != count:
            raise WeightsFileError(f"{source!s} became shorter while it was read")
        run = raw.view(dtype)
        if big_endian:
            run.view(f"u{dtype.itemsize}").byteswap(inplace=True)
        strides = tuple(step * dtype.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(run, shape, strides, writeable=False)
