"""PyTorch's zip format, since version 1.6: a pickle, and one uncompressed member for each storage.

TorchScript archives are the same with a program beside it (code/), which nobody reads.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from vdiffsr_jax.conversion import tensor_pickle, torch_script
from vdiffsr_jax.conversion.pickle_reader import PickleError
from vdiffsr_jax.conversion.storage_view import Storage
from vdiffsr_jax.weights.lazy_array import WeightsFileError, reading

_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


def load(path: Path, file: BinaryIO) -> Any:
    """What was saved; tensors know their place in the file.

    Raises: PickleError or WeightsFileError if the file is damaged, compressed, or holds anything that is not read.
    """
    return _Archive(path, file, path.stat().st_size).load()


class _Archive:
    def __init__(self, path: Path, file: BinaryIO, size: int):
        self.path, self.file, self.size = path, file, size
        with reading(path), zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.filename in self.members:
                raise WeightsFileError(f"{path} holds {info.filename} twice; torch.save writes no such file")
            self.members[info.filename] = info
        self.prefix = self._prefix()
        self.script = self.prefix + "constants.pkl" in self.members
        self._check_members()
        self.big_endian = self._byteorder() == b"big"

    def load(self) -> Any:
        content = tensor_pickle.load(
            self._bytes("data.pkl"), self.path, storage=self._storage, big_endian=self.big_endian, script=self.script
        )
        return torch_script.tensors(content) if self.script else content

    def _check_members(self) -> None:
        for info in self.members.values():
            if self.script and info.filename.startswith(self.prefix + "code/"):
                continue
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
        return found[0].removesuffix("data.pkl")

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

    def _storage(self, identity: tuple[Any, ...]) -> Storage:
        """A description is ("storage", type, key, location, number of elements)."""
        key, storage = tensor_pickle.describe_storage(identity, 5)
        storage.start, nbytes = self._extent(f"data/{key}")
        if storage.nbytes > nbytes:
            raise PickleError(
                f"storage {key} claims {storage.nbytes} bytes but holds {nbytes}; it is truncated or forged"
            )
        return storage
