from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.conversion.torch_writer import Raw, archive, dumps, integer, save, text
from vdiffsr_jax.conversion import torch_file
from vdiffsr_jax.weights.lazy_array import LazyArray, WeightsFileError

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "float16": np.array([1.5, -2.0], np.float16),
    "bfloat16": np.array([1.5, 3e38], ml_dtypes.bfloat16),
    "int64": np.array([2**40], np.int64),
    "bool": np.array([True, False]),
    "scalar": np.array(3.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def refusal(path: Path) -> str:
    with pytest.raises(WeightsFileError) as caught:
        torch_file.read(path)
    message = str(caught.value)
    assert str(path) in message
    return message


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_every_type_is_read_bit_for_bit(tmp_path: Path, byteorder: str):
    content = torch_file.read(save(tmp_path / "f.pth", {"t": ARRAYS, "step": 7, "note": "x"}, byteorder=byteorder))
    assert (content["step"], content["note"]) == (7, "x")
    for name, want in ARRAYS.items():
        lazy = content["t"][name]
        assert isinstance(lazy, LazyArray)
        assert (lazy.shape, lazy.dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(lazy.read(), want)


def test_a_file_made_by_torch_itself():
    state = torch_file.read(Path(__file__).parents[1] / "golden/var_transformer_b/weights.pth")
    assert len(state) == 50
    assert state["lvl_1L"].dtype == np.int64
    assert np.isfinite(state["word_embed.weight"].read()).all()


def _tensor(storage: np.ndarray, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], claimed: int) -> bytes:
    identity = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(claimed) + b"tQ"
    rest = b"".join(dumps(v, {}) for v in (offset, shape, stride, False))
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + identity + rest + b"ccollections\nOrderedDict\n)RtR."


@pytest.mark.parametrize(
    ("offset", "shape", "stride", "claimed", "message"),
    [
        (0, (3, 3), (3, 1), 8, "reaches beyond its storage"),
        (4, (2, 3), (3, 1), 8, "reaches beyond its storage"),
        (-1, (2,), (1,), 8, "damaged"),
        (0, (2,), (-1,), 8, "damaged"),
        (0, (2, 2), (1,), 8, "damaged"),
        (0, (1000, 8), (0, 1), 8, "repeats its storage"),
        (0, (2**30, 2**30), (2**30, 1), 8, "reaches beyond its storage"),
        (0, (8,), (1,), 9, "claims 36 bytes but holds 32"),
        (0, (8,), (1,), -1, "damaged"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path, offset, shape, stride, claimed, message):
    data = np.arange(8, dtype=np.float32)
    members = {"data.pkl": _tensor(data, offset, shape, stride, claimed), "data/0": data.tobytes()}
    assert message in refusal(archive(tmp_path / "f.pth", members))


def test_a_strided_view_is_read_in_its_own_order(tmp_path: Path):
    data = np.arange(8, dtype=np.float32)
    members = {"data.pkl": _tensor(data, 1, (3, 2), (1, 4), 8), "data/0": data.tobytes()}
    got = torch_file.read(archive(tmp_path / "f.pth", members)).read()
    np.testing.assert_array_equal(got, [[1, 5], [2, 6], [3, 7]])


def test_a_compressed_member_is_refused_before_it_is_unpacked(tmp_path: Path):
    bomb = {"data.pkl": b"\x80\x02}.", "data/0": bytes(50_000_000)}
    path = archive(tmp_path / "bomb.pth", bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "is compressed" in refusal(path)


def test_a_member_that_claims_more_than_the_file_is_refused(tmp_path: Path):
    path = save(tmp_path / "f.pth", {"a": np.zeros(4, np.float32)})
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"archive/data/0") - 46  # its line of the central directory
    assert raw[entry : entry + 4] == b"PK\x01\x02"
    raw[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(raw)
    assert "truncated or forged" in refusal(path)


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float):
    path = save(tmp_path / "f.pth", {"a": np.zeros(400, np.float32)})
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert "damaged or truncated" in refusal(path)


def test_a_lost_storage_is_refused(tmp_path: Path):
    members = {"data.pkl": _tensor(np.zeros(8), 0, (8,), (1,), 8)}
    assert "lacks its part data/0" in refusal(archive(tmp_path / "f.pth", members))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"nonsense" + bytes(600), "no zip archive"),
        (b"\x80\x02}.", "bare pickle"),
    ],
)
def test_other_files_are_refused_with_what_to_do(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "f.pth"
    path.write_bytes(content)
    assert re.search(message, refusal(path))


def test_other_archives_directories_and_nothing_are_refused(tmp_path: Path):
    path = tmp_path / "f.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    assert "no data.pkl" in refusal(path)
    assert "directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "absent.pth")


def test_a_member_twice_is_refused(tmp_path: Path):
    path = tmp_path / "f.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("archive/data.pkl", b"\x80\x02N.")
    assert "twice" in refusal(path)


def test_a_numpy_number_becomes_a_number(tmp_path: Path):
    dtype = b"cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tR(" + integer(3) + text("<") + b"NNN" + integer(-1) * 2
    number = b"cnumpy.core.multiarray\nscalar\n(" + dtype + integer(0) + b"tbC\x08" + struct.pack("<d", 2.5) + b"tR"
    assert torch_file.read(save(tmp_path / "f.pth", {"loss": Raw(number)})) == {"loss": 2.5}
