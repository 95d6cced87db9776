"""What torch.save's pickles may hold: tensors over storages, numbers, strings, plain containers, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vdiffsr_jax.conversion import pickle_reader, torch_script
from vdiffsr_jax.conversion.pickle_reader import Global, Opaque, PickleError
from vdiffsr_jax.conversion.storage_view import Storage
from vdiffsr_jax.weights.lazy_array import LazyArray

_STORAGES: dict[str, np.dtype] = {
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "ByteStorage": np.dtype(np.uint8),
    "CharStorage": np.dtype(np.int8),
    "ShortStorage": np.dtype(np.int16),
    "IntStorage": np.dtype(np.int32),
    "LongStorage": np.dtype(np.int64),
    "BoolStorage": np.dtype(np.bool_),
}
_DTYPES = {dtype.name: dtype for dtype in _STORAGES.values()}  # as torch calls them, too
# What a defaultdict is made of; never called here.
_FACTORIES = ("bool", "dict", "float", "int", "list", "long", "str", "tuple", "unicode")


@dataclasses.dataclass(frozen=True)
class _NumpyDtype:
    dtype: np.dtype


Places = Callable[[tuple[Any, ...]], Storage]


def load(
    data: Any, source: Path | bytes, *, storage: Places | None = None, big_endian: bool = False, script: bool = False
) -> Any:
    """The value of one pickle of torch.save, or of torch.jit.save (`script`), tensors as LazyArrays.

    Args: data: bytes, or a stream that is left where the pickle ends. source: what tensors are read from.
        storage: (description) -> Storage, for each ("storage", type, key, location, count, ...) that the pickle refers
        to; None if it must refer to none.
    Raises: PickleError.
    """

    def persistent(identity: Any) -> Storage:
        if storage is None or not (isinstance(identity, tuple) and identity[:1] == ("storage",)):
            raise PickleError("the pickle refers to something that is no tensor storage: refused")
        return storage(identity)

    table = _table(source, big_endian)
    table = torch_script.WithModules(table) if script else table
    return pickle_reader.load(data, table, persistent=persistent, attributes=_attributes)


def describe_storage(identity: tuple[Any, ...], length: int) -> tuple[str, Storage]:
    """(key, storage without its place) of a description with `length` fields.

    Raises: PickleError if it describes none.
    """
    if len(identity) != length:
        raise PickleError("the description of a tensor storage is damaged")
    _, kind, key, _, count = identity[:5]
    if not isinstance(kind, Global) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise PickleError("the description of a tensor storage is damaged")
    name = kind.name.rpartition(".")[2]
    if name == "UntypedStorage":
        return key, Storage(count, None)
    if name not in _STORAGES:
        raise PickleError(f"{kind.name} is no tensor storage")
    dtype = _STORAGES[name]
    return key, Storage(count * dtype.itemsize, dtype)


def _table(source: Path | bytes, big_endian: bool) -> dict[str, Global]:
    """The only names a pickle may use, and what becomes of them."""

    def rebuild_v2(a: tuple[Any, ...]) -> LazyArray:  # storage, offset, shape, stride, requires_grad, hooks
        _count(a, 4, 7)
        return _tensor(source, big_endian, a[0], a[1], a[2], a[3], getattr(a[0], "dtype", None))

    def rebuild_v3(a: tuple[Any, ...]) -> LazyArray:  # the same, then dtype
        _count(a, 7, 8)
        name = a[6].name.removeprefix("torch.") if isinstance(a[6], Global) else ""
        if name not in _DTYPES:
            raise PickleError(f"a tensor of type {name or a[6]!r} is not read; cast it to float32 and save again")
        return _tensor(source, big_endian, a[0], a[1], a[2], a[3], _DTYPES[name])

    makers = {
        "torch._utils._rebuild_tensor": rebuild_v2,
        "torch._utils._rebuild_tensor_v2": rebuild_v2,
        "torch._utils._rebuild_tensor_v3": rebuild_v3,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.Size": lambda a: tuple(_ints(*a)),
        "torch.device": lambda a: ":".join(str(_plain(x)) for x in a),
        "collections.OrderedDict": _dict,
        "collections.Counter": _dict,
        "collections.defaultdict": _opaque("collections.defaultdict"),
        "builtins.set": _set,
        "__builtin__.set": _set,
        "__builtin__.bytes": _no_bytes,
        "_codecs.encode": _encode,
        "numpy.dtype": _numpy_dtype,
        "pathlib.PosixPath": _opaque("pathlib.PosixPath"),
        "pathlib._local.PosixPath": _opaque("pathlib.PosixPath"),  # Python 3.13
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        makers |= {f"{module}.scalar": _numpy_scalar, f"{module}._reconstruct": _opaque("numpy.ndarray")}
    markers = [f"torch.{name}" for name in (*_STORAGES, *_DTYPES, "float8_e4m3fn", "float8_e5m2")]
    markers += ["torch.storage.UntypedStorage", "torch.UntypedStorage", "numpy.ndarray"]
    markers += [f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _FACTORIES]
    table = {name: Global(name) for name in markers} | {name: Global(name, make) for name, make in makers.items()}
    return table | {"argparse.Namespace": Global("argparse.Namespace", new=_opaque("argparse.Namespace"))}


def _tensor(
    source: Path | bytes, big_endian: bool, storage: Any, offset: Any, shape: Any, stride: Any, dtype: np.dtype | None
) -> LazyArray:
    if not isinstance(storage, Storage) or dtype is None:
        raise PickleError("a tensor has no storage")
    numbers = (offset, *_ints(shape), *_ints(stride))
    if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise PickleError("a tensor's offset, shape or strides are damaged")
    size = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if size else offset
    if size and (last + 1) * dtype.itemsize > storage.nbytes:
        raise PickleError(f"a tensor of shape {tuple(shape)} reaches beyond its storage; it is truncated or forged")
    if size * dtype.itemsize > storage.nbytes:
        raise PickleError(f"a tensor of shape {tuple(shape)} repeats its storage; save a .contiguous() one instead")
    place = (slice(offset, last + 1), tuple(shape), tuple(stride))
    return LazyArray(tuple(shape), dtype, lambda: storage.read(source, *place, dtype, big_endian=big_endian))


def _count(arguments: tuple[Any, ...], low: int, high: int) -> None:
    if not low <= len(arguments) <= high:
        raise PickleError("a tensor's description is damaged")


def _ints(values: Any = ()) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or any(type(n) is not int for n in values):
        raise PickleError("a tensor's shape is damaged")
    return tuple(values)


def _plain(value: Any) -> Any:
    if not isinstance(value, (str, int)):
        raise PickleError("a device is damaged")
    return value


def _parameter(arguments: tuple[Any, ...]) -> LazyArray:
    if not arguments or not isinstance(arguments[0], LazyArray):
        raise PickleError("a parameter holds no tensor")
    return arguments[0]


def _dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if not arguments:
        return {}
    (items,) = arguments
    pairs = list(items.items()) if isinstance(items, dict) else items
    if not isinstance(pairs, list) or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in pairs):
        raise PickleError("a dictionary is damaged")
    if not all(isinstance(key, (str, int, float)) for key, _ in pairs):
        raise PickleError("a dictionary's key is neither a string nor a number: refused")
    return dict(pairs)


def _set(arguments: tuple[Any, ...]) -> frozenset[Any]:
    items = arguments[0] if arguments else []
    if not isinstance(items, list) or not all(isinstance(item, (str, int, float)) for item in items):
        raise PickleError("a set holds neither strings nor numbers: refused")
    return frozenset(items)


def _encode(arguments: tuple[Any, ...]) -> bytes:
    """How protocol 2 writes bytes: text, and 'latin1'."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise PickleError("a byte string is damaged")
    return arguments[0].encode("latin1")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    """How protocol 2 writes bytes of length zero."""
    if arguments:
        raise PickleError("a byte string is damaged")
    return b""


# What stands beside weights and is never built: name -> what its arguments must be.
_OPAQUE: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "argparse.Namespace": lambda a: not a,
    "collections.defaultdict": lambda a: len(a) < 2 and all(isinstance(factory, Global | None) for factory in a),
    "pathlib.PosixPath": lambda a: all(isinstance(part, str) for part in a),
    "numpy.ndarray": lambda a: len(a) == 3 and a[0] == Global("numpy.ndarray"),  # then shape and type
}


def _opaque(name: str) -> Callable[[tuple[Any, ...]], Opaque]:
    def make(arguments: tuple[Any, ...]) -> Opaque:
        if not _OPAQUE[name](arguments):
            raise PickleError(f"a value of {name} is damaged")
        return Opaque(name)

    return make


def _numpy_dtype(arguments: tuple[Any, ...]) -> _NumpyDtype | Opaque:
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or code[:1] not in "fiubcSUO" or not code[1:].isdecimal():
        raise PickleError(f"a numpy value of type {code!r} is no number: refused")
    # Numbers are read where they stand alone; what an array holds is never built.
    return _NumpyDtype(np.dtype(code)) if code[0] in "fiub" and len(code) == 2 else Opaque("numpy.dtype")


def _numpy_scalar(arguments: tuple[Any, ...]) -> int | float | bool:
    if len(arguments) != 2 or not isinstance(arguments[0], _NumpyDtype) or not isinstance(arguments[1], bytes):
        raise PickleError("a numpy number is damaged")
    dtype, raw = arguments[0].dtype, arguments[1]
    if len(raw) != dtype.itemsize:
        raise PickleError("a numpy number is damaged")
    number: int | float | bool = np.frombuffer(raw, dtype)[0].item()
    return number


def _attributes(target: Any, state: Any) -> Any:
    """Attributes of a state dict (its version numbers) and of opaque values are left out; a dtype's is its order."""
    if isinstance(target, torch_script.Module):
        return torch_script.set_attributes(target, state)
    if type(target) is dict and isinstance(state, dict):
        return target
    if isinstance(target, Opaque) and target.name in ("argparse.Namespace", "numpy.ndarray", "numpy.dtype"):
        return target
    if isinstance(target, _NumpyDtype) and isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
        return _NumpyDtype(target.dtype.newbyteorder(state[1]))
    raise PickleError(f"the pickle sets attributes of a {type(target).__name__}: refused")
