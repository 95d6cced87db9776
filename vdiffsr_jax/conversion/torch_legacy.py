"""PyTorch's format before version 1.6: pickles one after the other, then the storages that the pickle refers to.

In this order: a magic number, the version (1001), facts about the machine, the value, the storages' keys; then for each
key eight bytes of count and its numbers, always little-endian.
"""

from __future__ import annotations

import io
import mmap
from pathlib import Path
from typing import Any, BinaryIO

from vdiffsr_jax.conversion import tensor_pickle
from vdiffsr_jax.conversion.pickle_reader import PickleError
from vdiffsr_jax.conversion.storage_view import Storage

MAGIC = 0x1950A86A20F9469CFC6C
# The magic number as protocols 2 to 5 write it, and 0 and 1.
_SIGNATURES = (b"\x8a\x0a" + MAGIC.to_bytes(10, "little"), b"L%dL\n" % MAGIC)
_VERSION = 1001


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins like this is in this format."""
    return any(0 <= start.find(signature) <= 16 for signature in _SIGNATURES)


def load(path: Path, file: BinaryIO) -> Any:
    """What was saved; tensors know their place in the file.

    Raises: PickleError if the file is damaged, truncated or holds anything that is not read.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        return _read(memory, len(memory), path)


def loads(data: bytes) -> Any:
    """As `load`, of a file that lies in memory."""
    return _read(io.BytesIO(data), len(data), data)


def _read(stream: Any, size: int, source: Path | bytes) -> Any:
    storages: dict[str, Storage] = {}
    parts: list[tuple[Storage, Storage, int]] = []  # (part, whole, where it begins in it)

    def storage(identity: tuple[Any, ...]) -> Storage:
        # The sixth field is a part of the storage, (key, first, count), in files from before version 0.4.
        part = identity[5] if len(identity) == 6 else None
        key, found = tensor_pickle.describe_storage(identity, 6)
        if found.dtype is None:
            raise PickleError(f"storage {key} has no type, which this format always tells")
        known = storages.setdefault(key, found)
        if (known.nbytes, known.dtype) != (found.nbytes, found.dtype):
            raise PickleError(f"storage {key} is described twice, and differently")
        return known if part is None else _part(known, part)

    def _part(whole: Storage, part: Any) -> Storage:
        if not (isinstance(part, tuple) and len(part) == 3 and all(type(n) is int and n >= 0 for n in part[1:])):
            raise PickleError("the description of a part of a storage is damaged")
        assert whole.dtype is not None
        first, nbytes = (n * whole.dtype.itemsize for n in part[1:])
        if first + nbytes > whole.nbytes:
            raise PickleError("a part of a storage reaches beyond it; it is truncated or forged")
        parts.append((Storage(nbytes, whole.dtype), whole, first))
        return parts[-1][0]

    if tensor_pickle.load(stream, source) != MAGIC or tensor_pickle.load(stream, source) != _VERSION:
        raise PickleError(f"it is no file of torch.save's old format, version {_VERSION}")
    tensor_pickle.load(stream, source)
    value = tensor_pickle.load(stream, source, storage=storage)
    keys = tensor_pickle.load(stream, source)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleError("the list of storages is damaged")
    if len(set(keys)) != len(keys) or storages.keys() - set(keys):
        raise PickleError("the list of storages is damaged: it repeats one, or lacks one that a tensor needs")
    _place(stream, size, keys, storages)
    for part, whole, first in parts:
        assert whole.start is not None
        part.start = whole.start + first
    return value


def _place(stream: Any, size: int, keys: list[str], storages: dict[str, Storage]) -> None:
    """Walk over the storages in the file and note where each begins."""
    for key in keys:
        if key not in storages:
            raise PickleError(f"storage {key} is in the file but in no tensor; its size is not known")
        found = storages[key]
        assert found.dtype is not None
        itemsize = found.dtype.itemsize
        count = int.from_bytes(stream.read(8), "little", signed=True)
        if count * itemsize != found.nbytes:
            raise PickleError(f"storage {key} claims {found.nbytes} bytes but holds {count * itemsize}; it is forged")
        found.start = stream.tell()
        if found.start + found.nbytes > size:
            raise PickleError(f"storage {key} ends beyond the file; it is truncated: download it again")
        stream.seek(found.start + found.nbytes)
