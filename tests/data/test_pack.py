from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from tests.data.conftest import coordinates, noise, save
from vdiffsr_jax.data import pack
from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.photos import Broken, DataError
from vdiffsr_jax.data.pipeline import Samples
from vdiffsr_jax.data.sources import Collection


def test_shards_hold_the_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    output = str(tmp_path / "shards")
    assert pack.main(["--input", str(folder), "--output", output, "--shard-megabytes", "0.0001"]) == 0
    assert "3 photos packed" in capsys.readouterr().out
    names = sorted(p.name for p in Path(output).iterdir())
    assert names == [f"photos-{n:05d}.array_record" for n in range(3)]
    whole, packed = Collection((str(folder),), Broken()), Collection((output,), Broken())
    assert packed.keys == whole.keys == ["a", "deep/er/b", "small"]
    np.testing.assert_array_equal(packed.sizes, whole.sizes)
    for i in range(3):
        np.testing.assert_array_equal(packed.pixels(i), whole.pixels(i))
    one = Collection((f"{output}/{names[1]}",), Broken())
    np.testing.assert_array_equal(one.pixels(0), coordinates(1, 120, 80))


def test_training_on_shards_and_on_the_folder_is_the_same(folder: Path, tmp_path: Path):
    pack.pack(str(folder), str(tmp_path / "shards"))
    samples = [
        Samples(DataConfig(sources=(str(place),), crop_size=32, degradation="bicubic"), seed=0)
        for place in (folder, tmp_path / "shards")
    ]
    for i in range(10):
        np.testing.assert_array_equal(samples[0](i)["lr"], samples[1](i)["lr"])


def test_broken_photos_stay_outside(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    save(noise(0, 64, 64), folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1500])
    (folder / "none.jpg").write_bytes(b"")
    assert pack.main(["--input", str(folder), "--output", str(tmp_path / "s")]) == 1
    assert "3 photos packed" in (out := capsys.readouterr().out)
    assert "2 broken left out" in out


def test_refusals(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    output = str(tmp_path / "s")
    pack.pack(str(folder), output)
    for arguments, message in (
        (["--input", str(folder), "--output", output], "already holds .array_record shards"),
        (["--input", output, "--output", str(tmp_path / "t")], "holds shards already"),
        (["--input", str(folder), "--output", str(folder / "a.png")], "cannot be written"),
        (["--input", str(tmp_path / "nowhere"), "--output", output], "is neither a folder"),
    ):
        assert pack.main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(DataError, match="is neither a folder"):
        pack.main(["--input", str(tmp_path / "nowhere"), "--output", output, "--verbose"])


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "0"])
def test_a_shard_has_a_size(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, size: str):
    with pytest.raises(SystemExit, match="2"):
        pack.main(["--input", str(folder), "--output", str(tmp_path / "s"), f"--shard-megabytes={size}"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"error: argument --shard-megabytes: {size} must be positive, and finite")
    assert not (tmp_path / "s").exists()


def test_one_shard_may_hold_everything(folder: Path, tmp_path: Path):
    assert pack.main(["--input", str(folder), "--output", str(tmp_path / "s"), "--shard-megabytes", "1e308"]) == 0
    assert len(list((tmp_path / "s").iterdir())) == 1


def test_a_shard_of_something_else_is_refused(tmp_path: Path):
    writer = ArrayRecordWriter(str(tmp_path / "text.array_record"), "group_size:1")
    writer.write(b"some text")
    writer.close()
    with pytest.raises(DataError, match=r"text.array_record is not a whole shard from vdiffsr_jax.data.pack"):
        Collection((str(tmp_path),), Broken())
