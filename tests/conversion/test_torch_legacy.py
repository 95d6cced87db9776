"""torch.save's format before version 1.6: read as torch itself reads it, and every hostile file refused."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.test_pickle_reader import hostile
from tests.conversion.test_torch_file import ARRAYS
from tests.conversion.torch_writer import LEGACY_START, dumps, integer, legacy_around, save_legacy, text
from vdiffsr_jax.conversion import torch_file
from vdiffsr_jax.weights.lazy_array import WeightsFileError

DATA = np.arange(8, dtype=np.float32)


def refusal(path: Path) -> str:
    with pytest.raises(WeightsFileError) as caught:
        torch_file.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_type_is_read_bit_for_bit(tmp_path: Path):
    content = torch_file.read(save_legacy(tmp_path / "f.pth", {"t": ARRAYS, "step": 7}))
    assert content["step"] == 7
    for name, want in ARRAYS.items():
        lazy = content["t"][name]
        assert (lazy.shape, lazy.dtype) == (want.shape, want.dtype)
        np.testing.assert_array_equal(lazy.read(), want)


# torch.save({"a": torch.arange(6.).reshape(2, 3), "b": a[1]}, path, _use_new_zipfile_serialization=False), torch 2.13.
MADE_BY_TORCH = LEGACY_START + (
    b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nFloatStorage\nq\x04X\x0e\x00\x00\x0094213767733072q\x05X\x03\x00\x00\x00cpuq\x06K\x06Ntq\x07QK\x00K\x02K"
    b"\x03\x86q\x08K\x03K\x01\x86q\t\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rX\x01\x00\x00\x00bq\x0eh\x02((h"
    b"\x03h\x04X\x0e\x00\x00\x0094213767733072q\x0fh\x06K\x06Ntq\x10QK\x03K\x03\x85q\x11K\x01\x85q\x12\x89h\n)Rq\x13tq"
    b"\x14Rq\x15u.\x80\x02]q\x00X\x0e\x00\x00\x0094213767733072q\x01a."
    b"\x06\x00\x00\x00\x00\x00\x00\x00"
) + np.arange(6, dtype="<f4").tobytes()  # fmt: skip


def test_a_file_as_torch_writes_it_with_a_shared_storage(tmp_path: Path):
    path = tmp_path / "f.pth"
    path.write_bytes(MADE_BY_TORCH)
    content = torch_file.read(path)
    np.testing.assert_array_equal(content["a"].read(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(content["b"].read(), [3, 4, 5])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_any_pickle_protocol_begins_such_a_file(tmp_path: Path, protocol: int):
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"epoch": 3, "name": "x"}, []):
        pickle.dump(value, file, protocol)
    path = tmp_path / "f.pth"
    path.write_bytes(file.getvalue())
    assert torch_file.read(path) == {"epoch": 3, "name": "x"}


def _tensor(claimed: int, *, key: str = "0", part: bytes = b"N", kind: str = "FloatStorage", size: int = 8) -> bytes:
    identity = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + integer(claimed) + part
    rest = b"".join(dumps(v, {}) for v in (0, (size,), (1,), False))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + b"tQ" + rest + b"ccollections\nOrderedDict\n)RtR"


def test_a_part_of_a_storage_is_read_from_where_it_begins(tmp_path: Path):
    part = b"(" + text("view") + integer(2) + integer(3) + b"t"
    path = legacy_around(
        tmp_path / "f.pth", b"\x80\x02" + _tensor(8, part=part, size=3) + b".", {"0": (8, DATA.tobytes())}
    )
    np.testing.assert_array_equal(torch_file.read(path).read(), [2, 3, 4])


@pytest.mark.parametrize(
    ("pickle", "storages", "message"),
    [
        (_tensor(9), {"0": (8, DATA.tobytes())}, "claims 36 bytes but holds 32"),
        (_tensor(8), {"0": (9, DATA.tobytes())}, "claims 32 bytes but holds 36"),
        (_tensor(8), {"0": (-8, DATA.tobytes())}, "forged"),
        (_tensor(8), {"0": (8, DATA.tobytes()[:-1])}, "truncated"),
        (_tensor(2**30, size=2**30), {"0": (2**30, b"")}, "truncated"),
        (_tensor(8), {}, "lacks one that a tensor needs"),
        (_tensor(8), {"0": (8, DATA.tobytes()), "1": (8, DATA.tobytes())}, "in no tensor"),
        (_tensor(8, size=9), {"0": (8, DATA.tobytes())}, "reaches beyond its storage"),
        (_tensor(8, kind="UntypedStorage"), {"0": (8, bytes(8))}, "has no type"),
        (_tensor(-1), {"0": (8, DATA.tobytes())}, "damaged"),
        (_tensor(8, part=b""), {"0": (8, DATA.tobytes())}, "damaged"),
        (_tensor(8) + _tensor(7) + b"\x86", {"0": (8, DATA.tobytes())}, "described twice"),
        (_tensor(8, part=b"(" + text("v") + integer(6) + integer(3) + b"t"), {"0": (8, b"")}, "reaches beyond it"),
        (_tensor(8, part=integer(1)), {"0": (8, b"")}, "damaged"),
    ],
)
def test_forged_storages_are_refused(tmp_path: Path, pickle: bytes, storages, message: str):
    assert message in refusal(legacy_around(tmp_path / "f.pth", b"\x80\x02" + pickle + b".", storages))


@pytest.mark.parametrize("keep", [16, 40, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float):
    path = save_legacy(tmp_path / "f.pth", {"a": np.zeros(400, np.float32)})
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(keep if keep > 1 else keep * size)])
    refusal(path)


def test_another_version_is_refused(tmp_path: Path):
    path = tmp_path / "f.pth"
    path.write_bytes(LEGACY_START.replace(b"M\xe9\x03", b"M\xea\x03") + b"\x80\x02}.\x80\x02].")
    assert "version 1001" in refusal(path)


@pytest.mark.parametrize("case", list(hostile(Path("x"))))
def test_hostile_pickles_are_refused_by_name_and_nothing_runs(tmp_path: Path, case: str):
    canary = tmp_path / "canary"
    data, names = hostile(canary)[case]
    message = refusal(legacy_around(tmp_path / "evil.pth", data, {}))
    assert any(name in message for name in names.split("|")), message
    assert not canary.exists()


@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_every_pickle_of_the_file_is_read_by_the_same_reader(tmp_path: Path, place: int):
    canary = tmp_path / "canary"
    evil = hostile(canary)["os.system"][0]
    parts = [LEGACY_START[:15], LEGACY_START[15:21], LEGACY_START[21:], b"\x80\x02}.", b"\x80\x02]."]
    parts[place] = evil if place else parts[0][:-1] + evil[2:]
    path = tmp_path / "evil.pth"
    path.write_bytes(b"".join(parts))
    assert "refused" in refusal(path)
    assert not canary.exists()
