"""The hub's folder format: config.json beside one ITEM.safetensors per network, arrays in PyTorch's layout.

A parameter `a/0/kernel` of ours is the tensor `a.0.weight`: a linear map is (out, in), a convolution OIHW. Which tensor
fills which parameter follows from the configuration alone, so nothing is guessed from names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath
from safetensors import SafetensorError, safe_open

from vdiffsr_jax.weights.lazy_array import LazyArray
from vdiffsr_jax.weights.storage import is_remote

SUFFIX = ".safetensors"
_TO_TORCH = {2: (1, 0), 4: (3, 2, 0, 1)}  # axes of a kernel, by its rank
_FROM_TORCH = {2: (1, 0), 4: (2, 3, 1, 0)}
_DTYPES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "U8": np.dtype(np.uint8),  # differences of few bits
}


def torch_name(path: str) -> str:
    """`unet/time_embed/fc1/kernel` -> `unet.time_embed.fc1.weight`."""
    *modules, leaf = path.split("/")
    return ".".join([*modules, "weight" if leaf in ("kernel", "scale") else leaf])


def torch_names(paths: Iterable[str]) -> dict[str, str]:
    """{tensor's name: our path}. Raises: ValueError if two parameters would share a name."""
    result: dict[str, str] = {}
    for path in paths:
        name = torch_name(path)
        if name in result:
            raise ValueError(f"{result[name]} and {path} would both be called {name}")
        result[name] = path
    return result


def to_torch_layout(path: str, array: LazyArray) -> LazyArray:
    """The parameter as PyTorch lays it out."""
    return _transposed(path, array, _TO_TORCH)


def _transposed(path: str, array: LazyArray, axes: Mapping[int, tuple[int, ...]]) -> LazyArray:
    order = axes.get(array.ndim) if path.endswith("/kernel") else None
    if order is None:
        return array
    shape = tuple(array.shape[axis] for axis in order)
    return LazyArray(shape, array.dtype, lambda: np.ascontiguousarray(array.read().transpose(order)))


def file_of(item: epath.Path) -> epath.Path:
    """Where this format keeps the network that orbax would have in the folder `item`."""
    return item.parent / f"{item.name}{SUFFIX}"


def stored(item: epath.Path, want: Collection[str]) -> dict[str, LazyArray]:
    """{our path: array in our layout} of every tensor in the network's file; a name of no parameter stays as it is.

    Raises: ValueError if it is no such file, damaged or truncated, or lies in a bucket; OSError.
    """
    file = file_of(item)
    if is_remote(file):
        raise ValueError(f"{SUFFIX} files are read from disks only: copy the folder here first")
    names = torch_names(want)
    try:
        opened = safe_open(os.fspath(file), framework="numpy", backend="pread")
        return {
            names.get(name, name): _transposed(names.get(name, name), _lazy(opened, name), _FROM_TORCH)
            for name in opened.keys()  # noqa: SIM118  (no dict)
        }
    except SafetensorError as error:
        raise ValueError(error) from None


def read(item: epath.Path, leaves: Sequence[tuple[tuple[Any, ...], Any]]) -> list[np.ndarray]:
    """The arrays of these (keys, shape and dtype), cast as they say. Raises: ValueError or OSError if damaged."""
    paths = ["/".join(str(key.key) for key in keys) for keys, _ in leaves]
    arrays = stored(item, paths)
    try:
        return [arrays[path].astype(struct.dtype).read() for path, (_, struct) in zip(paths, leaves, strict=True)]
    except SafetensorError as error:
        raise ValueError(error) from None


def _lazy(opened: Any, name: str) -> LazyArray:
    entry = opened.get_slice(name)
    if entry.get_dtype() not in _DTYPES:
        raise SafetensorError(f"{name} has type {entry.get_dtype()}")
    return LazyArray(tuple(entry.get_shape()), _DTYPES[entry.get_dtype()], lambda: opened.get_tensor(name))
