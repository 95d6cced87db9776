"""PyTorch's format from before version 1.6: one pickle after another, then the numbers of every storage."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, BinaryIO

import numpy as np

from vdiffsr_jax.conversion import pickle_reader
from vdiffsr_jax.conversion.pickle_reader import Global, PickleError
from vdiffsr_jax.weights.lazy_array import LazyArray

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_DTYPES: dict[str, np.dtype] = {
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
}


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    numel: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A run of a storage whose place is known only after the pickle."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read(file: BinaryIO) -> Any:
    """What was saved, tensors as LazyArrays over `file`'s bytes read now; only contiguous tensors.

    Args: file: at its beginning.
    Raises: PickleError if it is damaged or holds anything else than tensors and plain containers.
    """
    start = file.tell()
    if file.read(len(MAGIC)) != MAGIC:
        raise PickleError("it does not begin as a file of torch.save")
    file.seek(start)
    storages: dict[str, _Storage] = {}

    def identity(value: Any) -> _Storage:
        """A persistent id is ('storage', type, key, location, number of elements, view)."""
        if not (isinstance(value, tuple) and len(value) == 6 and value[0] == "storage" and value[5] is None):
            raise PickleError("the pickle refers to something that is no tensor storage: refused")
        _, kind, key, _, numel, _ = value
        if not isinstance(kind, Global) or kind.name not in _DTYPES or not isinstance(key, str):
            raise PickleError("the description of a tensor storage is damaged")
        if type(numel) is not int or numel < 0:
            raise PickleError("the size of a tensor storage is damaged")
        return storages.setdefault(key, _Storage(key, _DTYPES[kind.name], numel))

    _, _, system, content, keys = (
        pickle_reader.load(file, _TABLE, persistent=identity, attributes=_attributes) for _ in range(5)
    )
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleError("it was written on a machine of the other byte order: refused")
    if not isinstance(keys, list) or set(keys) != set(storages):
        raise PickleError("its list of storages is damaged")
    return _filled(content, {key: _numbers(file, storages[key]) for key in keys})


def _numbers(file: BinaryIO, storage: _Storage) -> np.ndarray:
    """The count of a storage in eight bytes, then its numbers."""
    if int.from_bytes(file.read(8), "little") != storage.numel:
        raise PickleError(f"storage {storage.key} is not as long as its description says")
    nbytes = storage.numel * storage.dtype.itemsize
    raw = file.read(nbytes)
    if len(raw) != nbytes:
        raise PickleError(f"storage {storage.key} ends too early; the file is truncated")
    return np.frombuffer(raw, storage.dtype)


def _filled(value: Any, numbers: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, numbers) for key, inner in value.items()}
    if isinstance(value, _Tensor):
        run = numbers[value.storage.key][value.offset : value.offset + math.prod(value.shape)]
        return LazyArray.of(run.reshape(value.shape))
    return value


def _tensor(a: tuple[Any, ...]) -> _Tensor:
    """Storage, offset, shape, stride, requires_grad, hooks."""
    if not 4 <= len(a) <= 6 or not isinstance(a[0], _Storage):
        raise PickleError("a tensor's description is damaged")
    storage, offset, shape, stride = a[:4]
    numbers = (offset, *shape, *stride) if isinstance(shape, tuple) and isinstance(stride, tuple) else ()
    if not numbers or any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(stride):
        raise PickleError("a tensor's offset, shape or strides are damaged")
    if offset + math.prod(shape) > storage.numel:
        raise PickleError(f"a tensor of shape {shape} reaches beyond its storage; it is truncated or forged")
    if any(n > 1 and step != math.prod(shape[i + 1 :]) for i, (n, step) in enumerate(zip(shape, stride, strict=True))):
        raise PickleError(f"a tensor of shape {shape} is a view; save a .contiguous() one instead")
    return _Tensor(storage, offset, shape)


def _parameter(a: tuple[Any, ...]) -> _Tensor:
    if not a or not isinstance(a[0], _Tensor):
        raise PickleError("a parameter holds no tensor")
    return a[0]


def _ordered(a: tuple[Any, ...]) -> dict[Any, Any]:
    if a:
        raise PickleError("a dictionary is damaged")
    return {}


def _attributes(target: Any, state: Any) -> Any:
    """Attributes of a state dict (its version numbers) are left out."""
    if type(target) is dict and isinstance(state, dict):
        return target
    raise PickleError(f"the pickle sets attributes of a {type(target).__name__}: refused")


_TABLE = {
    "torch._utils._rebuild_tensor_v2": Global("torch._utils._rebuild_tensor_v2", _tensor),
    "torch._utils._rebuild_tensor": Global("torch._utils._rebuild_tensor", _tensor),
    "torch._utils._rebuild_parameter": Global("torch._utils._rebuild_parameter", _parameter),
    "collections.OrderedDict": Global("collections.OrderedDict", _ordered),
    **{name: Global(name) for name in _DTYPES},
}
