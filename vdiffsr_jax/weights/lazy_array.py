"""An array that is read when it is needed: files are converted one tensor at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


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
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def astype(self, dtype: Any) -> LazyArray:
        """The same array, cast when it is read."""
        return LazyArray(self.shape, np.dtype(dtype), lambda: self.read().astype(dtype, copy=False))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)
