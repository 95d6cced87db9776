from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.conversion.test_torch_file import ARRAYS
from vdiffsr_jax.conversion import safetensors_file
from vdiffsr_jax.conversion.rules import WeightsFileError
from vdiffsr_jax.weights.lazy_array import LazyArray


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path):
    path = tmp_path / "f.safetensors"
    safetensors_file.write(path, {name: LazyArray.of(array) for name, array in ARRAYS.items()})
    got = safetensors_file.read(path)
    assert list(got) == list(ARRAYS)
    for name, want in ARRAYS.items():
        assert (got[name].shape, got[name].dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(got[name].read(), want)
    assert [p.name for p in tmp_path.iterdir()] == ["f.safetensors"]


def test_the_library_reads_ours_and_we_read_the_librarys(tmp_path: Path):
    arrays = {name: array for name, array in ARRAYS.items() if name != "bfloat16"}
    safetensors_file.write(tmp_path / "ours", {name: LazyArray.of(array) for name, array in arrays.items()})
    save_file(arrays, tmp_path / "theirs")
    theirs = safetensors_file.read(tmp_path / "theirs")
    for name, array in load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(array, arrays[name])
        np.testing.assert_array_equal(theirs[name].read(), arrays[name])


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    path = tmp_path / "f.safetensors"
    lying = LazyArray((3,), np.dtype(np.float32), lambda: np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="was announced as"):
        safetensors_file.write(path, {"a": lying})
    with pytest.raises(ValueError, match="has no type complex64"):
        safetensors_file.write(path, {"a": LazyArray.of(np.zeros(2, np.complex64))})
    assert not list(tmp_path.iterdir())


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (entry(), bytes(7), "truncated: a ends beyond the file"),
        (entry(shape=(3,)), bytes(8), "does not take 8 bytes"),
        (entry(offsets=(8, 0)), bytes(8), "does not take"),
        (entry(shape=(-2,)), bytes(8), "damaged"),
        (entry(shape=(2.0,)), bytes(8), "damaged"),
        (entry(shape=2), bytes(8), "damaged"),
        (entry(offsets=(0,)), bytes(8), "damaged"),
        (entry(dtype="F8_E4M3"), bytes(8), "F8_E4M3"),
        (b'{"a": 1}', b"", "damaged"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        (b"[1]", b"", "header is damaged"),
        (b"{nonsense", b"", "header is damaged"),
        (b"\xff\xfe", b"", "header is damaged"),
        (b"[" * 100_000, b"", "header is damaged"),
    ],
)
def test_a_forged_file_is_refused(tmp_path: Path, header: bytes, data: bytes, message: str):
    path = tmp_path / "f.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    with pytest.raises(WeightsFileError, match=message):
        safetensors_file.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"abc", (2**40).to_bytes(8, "little") + b"{}", (9).to_bytes(8, "little") + b"{}"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "f.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsFileError, match=r"is no \.safetensors file"):
        safetensors_file.read(path)


def test_absent_files_and_directories_are_refused(tmp_path: Path):
    with pytest.raises(WeightsFileError, match="No such file"):
        safetensors_file.read(tmp_path / "absent")
    with pytest.raises(WeightsFileError, match="is a directory"):
        safetensors_file.read(tmp_path)
