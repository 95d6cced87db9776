"""Archives of numpy arrays (.npz), as JAX projects publish weights; each array is read when its numbers are needed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from vdiffsr_jax.weights.lazy_array import LazyArray, WeightsFileError, reading

_MEMBER = b".npy"


def is_npz(start: bytes) -> bool:
    """Whether a zip archive, by its first bytes, begins with an array."""
    length = int.from_bytes(start[26:28], "little")
    return start[30 : 30 + length].endswith(_MEMBER)


def read(path: Path) -> dict[str, LazyArray]:
    """{name: array}; arrays of objects are pickles, and refused.

    Raises: WeightsFileError if the file is damaged or an array holds no numbers.
    """
    found: dict[str, LazyArray] = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                first = version == (1, 0)
                header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(file)
            if dtype.hasobject:
                raise WeightsFileError(f"{path}: {info.filename} holds Python objects, no numbers: refused")
            name = info.filename.removesuffix(".npy")
            if name in found:
                raise WeightsFileError(f"{path} holds {name} twice; numpy writes no such file")
            found[name] = LazyArray(shape, dtype, lambda name=name: _array(path, name))  # type: ignore[misc]
    return found


def _array(path: Path, name: str) -> np.ndarray:
    with reading(path), np.load(path, allow_pickle=False) as archive:
        values: np.ndarray = archive[name]
    return values
