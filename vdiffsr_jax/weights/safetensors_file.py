"""The .safetensors format, read and written one tensor at a time, bfloat16 included."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from vdiffsr_jax.weights import whole
from vdiffsr_jax.weights.lazy_array import LazyArray, WeightsFileError, reading

_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


def read(path: str | os.PathLike[str]) -> dict[str, LazyArray]:
    """The tensors of a file by name, in the file's order.

    Raises: WeightsFileError if it is not such a file, truncated, or its header does not describe it.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsFileError(f"{path} is a directory, not a weights file")
    with reading(path):
        try:
            file = safe_open(path, framework="numpy", backend="pread")  # mapped pages would count as memory in use
            names = file.offset_keys()
        except SafetensorError as error:
            raise WeightsFileError(f"{path} is no .safetensors file, or is damaged or truncated ({error})") from None
        _check_unique(path)
    return {name: _tensor(path, file, name) for name in names}


def _check_unique(path: Path) -> None:
    """The library takes the last of two entries of one name; another reader may take the first."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise WeightsFileError(f"{path}: its header has a name twice; it is forged")
        return dict(pairs)

    with path.open("rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=unique)


def _tensor(path: Path, file: Any, name: str) -> LazyArray:
    entry = file.get_slice(name)
    shape, code = tuple(entry.get_shape()), entry.get_dtype()
    if code not in _DTYPES:
        raise WeightsFileError(f"{path}: {name} has type {code!r}, which is not read; cast it to float32")

    def load() -> np.ndarray:
        try:
            values: np.ndarray = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise WeightsFileError(f"{path} changed while it was read: {name}: {error}") from None
        return values

    return LazyArray(shape, _DTYPES[code], load)


def write(path: str | os.PathLike[str], tensors: Mapping[str, LazyArray]) -> None:
    """Write tensors under their names; the file appears whole or not at all.

    The library lays out the file, all zeros, and then the numbers are filled in: it would want them all in memory.
    Raises: ValueError for a type that the format does not have; BusyError if another process writes it; OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES.values():
            raise ValueError(f"{name}: .safetensors has no type {tensor.dtype}")
    with whole.alone(path):
        _write(path, path.with_name(f".{path.name}.partial"), tensors)


def _write(path: Path, partial: Path, tensors: Mapping[str, LazyArray]) -> None:
    try:
        try:
            _lay_out(partial, tensors)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from None
        with safe_open(partial, framework="numpy", backend="pread") as layout:
            order = layout.offset_keys()
        with partial.open("r+b") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            for name in order:
                array = np.asarray(tensors[name].read(), dtype=tensors[name].dtype, order="C")
                if array.shape != tensors[name].shape:
                    raise ValueError(f"{name} was announced as {tensors[name].shape} but is {array.shape}")
                file.write(array.reshape(-1).view(np.uint8).data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _lay_out(path: Path, tensors: Mapping[str, LazyArray]) -> None:
    sizes = {name: tensor.size * tensor.dtype.itemsize for name, tensor in tensors.items()}
    # Pages that are only read stay the system's one page of zeros.
    zeros = np.frombuffer(mmap.mmap(-1, max(sizes.values(), default=0) + 1), np.uint8)
    specs = {
        name: TensorSpec(
            dtype=tensor.dtype.name, shape=list(tensor.shape), data_ptr=zeros.ctypes.data, data_len=sizes[name]
        )
        for name, tensor in tensors.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})
