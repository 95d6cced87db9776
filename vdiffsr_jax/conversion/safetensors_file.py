"""The .safetensors format, read and written one tensor at a time, bfloat16 included."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vdiffsr_jax.conversion.rules import WeightsFileError
from vdiffsr_jax.weights.lazy_array import LazyArray

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
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_HEADER = 100_000_000  # bytes; the format's own limit


def read(path: str | os.PathLike[str]) -> dict[str, LazyArray]:
    """The tensors of a file by name, in the file's order.

    Raises: WeightsFileError if it is not such a file, truncated, or its header does not describe it.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsFileError(f"{path} is a directory, not a weights file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER):
                raise WeightsFileError(f"{path} is no .safetensors file, or is truncated")
            header = file.read(length)
    except OSError as error:
        raise WeightsFileError(f"{path}: {error.strerror or error}") from None
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
        if not isinstance(entries, dict):
            raise ValueError("no names")
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(f"{path} is no .safetensors file: its header is damaged ({error})") from None
    entries.pop("__metadata__", None)
    return {name: _tensor(path, name, entry, 8 + length, size) for name, entry in entries.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _tensor(path: Path, name: str, entry: Any, base: int, size: int) -> LazyArray:
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise WeightsFileError(f"{path}: the entry of {name} is damaged") from None
    if any(type(n) is not int or n < 0 for n in (*shape, begin, end)):
        raise WeightsFileError(f"{path}: the entry of {name} is damaged")
    if code not in _DTYPES:
        raise WeightsFileError(f"{path}: {name} has type {code!r}, which is not read; cast it to float32")
    dtype = _DTYPES[code]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise WeightsFileError(f"{path}: {name} of shape {shape} does not take {end - begin} bytes")
    if base + end > size:
        raise WeightsFileError(f"{path} is truncated: {name} ends beyond the file")

    def load() -> np.ndarray:
        raw = np.fromfile(path, np.uint8, end - begin, offset=base + begin)
        if raw.size != end - begin:
            raise WeightsFileError(f"{path} became shorter while it was read")
        return raw.view(dtype).reshape(shape)

    return LazyArray(shape, dtype, load)


def write(path: str | os.PathLike[str], tensors: Mapping[str, LazyArray]) -> None:
    """Write tensors under their names; the file appears whole or not at all.

    Raises: ValueError for a type that the format does not have.
    """
    path = Path(path)
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name}: .safetensors has no type {tensor.dtype}")
        end = begin + tensor.size * tensor.dtype.itemsize
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name, tensor in tensors.items():
                array = np.asarray(tensor.read(), dtype=tensor.dtype, order="C")
                if array.shape != tensor.shape:
                    raise ValueError(f"{name} was announced as {tensor.shape} but is {array.shape}")
                file.write(array.reshape(-1).view(np.uint8).data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
