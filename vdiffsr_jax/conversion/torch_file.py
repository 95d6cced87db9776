"""PyTorch's zip format (.pth, .pt, .ckpt) without PyTorch: what torch.save writes, tensors read one at a time."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from vdiffsr_jax.conversion import pickle_reader
from vdiffsr_jax.conversion.pickle_reader import Global, PickleError
from vdiffsr_jax.conversion.rules import WeightsFileError
from vdiffsr_jax.weights.lazy_array import LazyArray

_DTYPES: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "uint8": np.dtype(np.uint8),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
_STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
}
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Where a run of numbers lies in the file; `dtype` is None where the tensor says it."""

    start: int
    nbytes: int
    dtype: np.dtype | None


@dataclasses.dataclass(frozen=True)
class _NumpyDtype:
    dtype: np.dtype


def read(path: str | os.PathLike[str]) -> Any:
    """What was saved: nested dicts, lists and tuples of numbers, strings and LazyArrays.

    Raises: WeightsFileError if it is no file of this format, damaged, compressed, or holds anything else.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsFileError(f"{path} is a directory, not a weights file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            _check_start(path, file)
            return _Archive(path, file, size).load()
    except OSError as error:
        raise WeightsFileError(f"{path}: {error.strerror or error}") from None
    except PickleError as error:
        raise WeightsFileError(f"{path}: {error}") from None


def _check_start(path: Path, file: BinaryIO) -> None:
    start = file.read(512)
    if not start:
        raise WeightsFileError(f"{path} is empty")
    if start.startswith(b"PK\x03\x04"):
        return
    if start[257:262] == b"ustar":
        raise WeightsFileError(
            f"{path} is in PyTorch's oldest format, from before version 0.1.10, which is refused. "
            f'Resave it where PyTorch is installed: python -c "import torch; '
            f"torch.save(torch.load('{path.name}', map_location='cpu', weights_only=True), 'resaved.pth')\""
        )
    raise WeightsFileError(f"{path} is not a file of torch.save (no zip archive)")


class _Archive:
    def __init__(self, path: Path, file: BinaryIO, size: int):
        self.path, self.file, self.size = path, file, size
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise WeightsFileError(f"{path} is damaged or truncated ({error}); download it again") from None
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.filename in self.members:
                raise WeightsFileError(f"{path} holds {info.filename} twice; torch.save writes no such file")
            self.members[info.filename] = info
        self.prefix = self._prefix()
        self._check_members()
        self.big_endian = self._byteorder() == b"big"

    def load(self) -> Any:
        return pickle_reader.load(
            self._bytes("data.pkl"), self._table(), persistent=self._storage, attributes=_attributes
        )

    def _check_members(self) -> None:
        for info in self.members.values():
            if info.flag_bits & 0x1:
                raise WeightsFileError(f"{self.path}: {info.filename} is encrypted")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise WeightsFileError(
                    f"{self.path}: {info.filename} is compressed ({info.compress_size} to {info.file_size} bytes); "
                    "torch.save never compresses, so this is refused"
                )
            if info.header_offset < 0 or info.header_offset + _LOCAL_HEADER + info.file_size > self.size:
                raise WeightsFileError(
                    f"{self.path}: {info.filename} claims {info.file_size} bytes, more than the file holds "
                    f"({self.size}); it is truncated or forged"
                )

    def _prefix(self) -> str:
        found = [name for name in self.members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(found) != 1:
            raise WeightsFileError(f"{self.path} is a zip archive but not one of torch.save (no data.pkl)")
        prefix = found[0].removesuffix("data.pkl")
        if prefix + "constants.pkl" in self.members:
            raise WeightsFileError(f"{self.path} is a TorchScript program, not weights; save its state_dict() instead")
        return prefix

    def _byteorder(self) -> bytes:
        if self.prefix + "byteorder" not in self.members:
            return b"little"
        order = self._bytes("byteorder")
        if order not in (b"little", b"big"):
            raise WeightsFileError(f"{self.path}: unknown byte order {order[:20]!r}")
        return order

    def _extent(self, name: str) -> tuple[int, int]:
        """(start, bytes) of a member's data; the local header's length is only told in the header itself."""
        info = self.members.get(self.prefix + name)
        if info is None:
            raise WeightsFileError(f"{self.path} lacks its part {name}; it is damaged")
        self.file.seek(info.header_offset)
        header = self.file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise WeightsFileError(f"{self.path}: the header of {name} is damaged")
        start = info.header_offset + _LOCAL_HEADER + int.from_bytes(header[26:28], "little")
        start += int.from_bytes(header[28:30], "little")
        if start + info.file_size > self.size:
            raise WeightsFileError(f"{self.path}: {name} ends beyond the file; it is truncated or forged")
        return start, info.file_size

    def _bytes(self, name: str) -> bytes:
        start, nbytes = self._extent(name)
        self.file.seek(start)
        return self.file.read(nbytes)

    def _storage(self, identity: Any) -> _Storage:
        """A persistent id is ('storage', type, key, location, number of elements)."""
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise PickleError("the pickle refers to something that is no tensor storage: refused")
        _, kind, key, _, numel = identity
        if not isinstance(kind, Global) or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise PickleError("the description of a tensor storage is damaged")
        start, nbytes = self._extent(f"data/{key}")
        name = kind.name.rpartition(".")[2]
        if name == "UntypedStorage":
            dtype, needed = None, numel
        elif name in _STORAGES:
            dtype = _DTYPES[_STORAGES[name]]
            needed = numel * dtype.itemsize
        else:
            raise PickleError(f"{kind.name} is no tensor storage")
        if needed > nbytes:
            raise PickleError(f"storage {key} claims {needed} bytes but holds {nbytes}; it is truncated or forged")
        return _Storage(start, needed, dtype)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, dtype: np.dtype | None) -> LazyArray:
        if not isinstance(storage, _Storage) or dtype is None:
            raise PickleError("a tensor has no storage")
        numbers = (offset, *_ints(shape), *_ints(stride))
        if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
            raise PickleError("a tensor's offset, shape or strides are damaged")
        size = 1
        for n in shape:
            size *= n
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if size else offset
        if size and (last + 1) * dtype.itemsize > storage.nbytes:
            raise PickleError(f"a tensor of shape {tuple(shape)} reaches beyond its storage; it is truncated or forged")
        if size * dtype.itemsize > storage.nbytes:
            raise PickleError(f"a tensor of shape {tuple(shape)} repeats its storage; save a .contiguous() one instead")
        view = _View(self.path, storage.start + offset * dtype.itemsize, last + 1 - offset, tuple(shape), tuple(stride))
        return LazyArray(tuple(shape), dtype, lambda: view.read(dtype, self.big_endian))

    def _table(self) -> dict[str, Global]:
        """The only names a pickle may use, and what becomes of them."""

        def rebuild_v2(a: tuple[Any, ...]) -> LazyArray:  # storage, offset, shape, stride, requires_grad, hooks
            _count(a, 4, 7)
            return self._tensor(a[0], a[1], a[2], a[3], getattr(a[0], "dtype", None))

        def rebuild_v3(a: tuple[Any, ...]) -> LazyArray:  # the same, then dtype
            _count(a, 7, 8)
            name = a[6].name.removeprefix("torch.") if isinstance(a[6], Global) else ""
            if name not in _DTYPES:
                raise PickleError(f"a tensor of type {name or a[6]!r} is not read; cast it to float32 and save again")
            return self._tensor(a[0], a[1], a[2], a[3], _DTYPES[name])

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
            "builtins.set": _set,
            "__builtin__.set": _set,
            "_codecs.encode": _encode,
            "numpy.dtype": _numpy_dtype,
            "numpy.core.multiarray.scalar": _numpy_scalar,
            "numpy._core.multiarray.scalar": _numpy_scalar,
        }
        markers = [f"torch.{name}" for name in (*_STORAGES, *_DTYPES, "float8_e4m3fn", "float8_e5m2")]
        markers += ["torch.storage.UntypedStorage", "torch.UntypedStorage"]
        return {name: Global(name, make) for name, make in makers.items()} | {name: Global(name) for name in markers}


@dataclasses.dataclass(frozen=True)
class _View:
    """A tensor's place: `extent` elements from byte `start` hold all of it."""

    path: Path
    start: int
    extent: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, dtype: np.dtype, big_endian: bool) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)
        count = self.extent * dtype.itemsize
        raw = np.fromfile(self.path, np.uint8, count, offset=self.start)
        if raw.size != count:
            raise WeightsFileError(f"{self.path} became shorter while it was read")
        run = raw.view(dtype)
        if big_endian:
            run.view(f"u{dtype.itemsize}").byteswap(inplace=True)
        strides = tuple(step * dtype.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(run, self.shape, strides, writeable=False)


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


def _numpy_dtype(arguments: tuple[Any, ...]) -> _NumpyDtype:
    code = arguments[0] if arguments else None
    if not isinstance(code, str) or len(code) != 2 or code[0] not in "fiub" or not code[1].isdigit():
        raise PickleError(f"a numpy value of type {code!r} is no number: refused")
    return _NumpyDtype(np.dtype(code))


def _numpy_scalar(arguments: tuple[Any, ...]) -> int | float | bool:
    if len(arguments) != 2 or not isinstance(arguments[0], _NumpyDtype) or not isinstance(arguments[1], bytes):
        raise PickleError("a numpy number is damaged")
    dtype, raw = arguments[0].dtype, arguments[1]
    if len(raw) != dtype.itemsize:
        raise PickleError("a numpy number is damaged")
    return np.frombuffer(raw, dtype)[0].item()


def _attributes(target: Any, state: Any) -> Any:
    """Attributes of a state dict (its version numbers) are left out; a numpy dtype's is its byte order."""
    if type(target) is dict and isinstance(state, dict):
        return target
    if isinstance(target, _NumpyDtype) and isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
        return _NumpyDtype(target.dtype.newbyteorder(state[1]))
    raise PickleError(f"the pickle sets attributes of a {type(target).__name__}: refused")
