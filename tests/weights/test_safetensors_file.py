from __future__ import annotations

import functools
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.conversion.test_torch_file import ARRAYS
from vdiffsr_jax.weights import safetensors_file
from vdiffsr_jax.weights.lazy_array import LazyArray, WeightsFileError
from vdiffsr_jax.weights.whole import BusyError


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path):
    path = tmp_path / "f.safetensors"
    safetensors_file.write(path, {name: LazyArray.of(array) for name, array in ARRAYS.items()})
    got = safetensors_file.read(path)
    assert set(got) == set(ARRAYS)
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


def test_a_file_that_another_process_writes_is_left_to_it(tmp_path: Path):
    path = tmp_path / "f.safetensors"

    def write_again() -> np.ndarray:
        with pytest.raises(BusyError, match=r"f\.safetensors: another process writes there"):
            safetensors_file.write(path, {"a": LazyArray.of(np.ones(3, np.float32))})
        return np.zeros(3, np.float32)

    safetensors_file.write(path, {"a": LazyArray((3,), np.dtype(np.float32), write_again)})
    assert not safetensors_file.read(path)["a"].read().any()
    assert [p.name for p in tmp_path.iterdir()] == ["f.safetensors"]


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


TWICE = entry()[:-1] + b", " + entry()[1:]
OVERLAPPING = entry()[:-1] + b', "b": ' + entry()[6:]


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (entry(), bytes(7), "truncated"),
        (entry(), bytes(12), "not fully covered"),
        (entry(shape=(3,)), bytes(8), "invalid shape"),
        (entry(shape=(2**32, 2**32, 2**32)), bytes(8), "overflow"),
        (entry(offsets=(8, 0)), bytes(8), "invalid offset"),
        (entry(offsets=(4, 12)), bytes(12), "invalid offset"),
        (entry(shape=(-2,)), bytes(8), "damaged"),
        (entry(shape=(2.0,)), bytes(8), "damaged"),
        (entry(shape=2), bytes(8), "damaged"),
        (entry(offsets=(0,)), bytes(8), "damaged"),
        (entry(dtype="F8_E4M3", offsets=(0, 2)), bytes(2), "a has type 'F8_E4M3'.*cast it"),
        (b'{"a": 1}', b"", "damaged"),
        (TWICE, bytes(8), "has a name twice"),
        (OVERLAPPING, bytes(8), "invalid offset"),
        (b"[1]", b"", "damaged"),
        (b"{nonsense", b"", "damaged"),
        (b"\xff\xfe", b"", "damaged"),
        (b"[" * 100_000, b"", "damaged"),
        (b'{"a":' * 100_000, b"", "damaged"),
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


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path):
    path = tmp_path / "f.safetensors"
    save_file({"a": np.ones(1000, np.float32)}, path)
    lazy = safetensors_file.read(path)["a"]
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(WeightsFileError, match="changed while it was read"):
        lazy.read()


def test_writing_holds_one_tensor_at_a_time(tmp_path: Path):
    """Each tensor is read once, in the file's order, when the others' numbers are not in memory."""
    alive: list[weakref.ref] = []

    def make(i: int) -> np.ndarray:
        assert sum(ref() is not None for ref in alive) <= 1  # the one that is written just now
        array = np.full(1000, i, np.float32)
        alive.append(weakref.ref(array))
        return array

    tensors = {str(i): LazyArray((1000,), np.dtype(np.float32), functools.partial(make, i)) for i in range(6)}
    safetensors_file.write(tmp_path / "f.safetensors", tensors)
    assert len(alive) == 6
    for name, array in load_file(tmp_path / "f.safetensors").items():
        np.testing.assert_array_equal(array, np.full(1000, int(name)))


def test_absent_files_and_directories_are_refused(tmp_path: Path):
    with pytest.raises(WeightsFileError, match="No such file"):
        safetensors_file.read(tmp_path / "absent")
    with pytest.raises(WeightsFileError, match="is a directory"):
        safetensors_file.read(tmp_path)
