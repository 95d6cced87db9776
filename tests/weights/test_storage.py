"""Places here and in a bucket; a bucket that cannot be opened is told in one line."""

from __future__ import annotations

import sys

import pytest
from etils import epath

from vdiffsr_jax.cli import model
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.weights import storage


def test_places():
    assert storage.place("runs/x").is_absolute()
    assert not storage.is_remote("/runs/x")
    assert storage.is_remote("gs://bucket/x")


def test_a_bucket_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"gs://bucket/x: .*pip install gcsfs"):
        storage.place("gs://bucket/x")


def test_what_only_a_disk_takes_is_no_bucket(capsys):
    with pytest.raises(SystemExit) as caught:
        model.main(["export", "m", "--format", "onnx", "--output", "gs://bucket/tile"])
    assert caught.value.code == 2
    assert "gs://bucket/tile is in a bucket, and this goes to a disk only" in capsys.readouterr().err


def test_two_writers_of_a_small_file_do_not_meet_and_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    file = epath.Path(tmp_path) / "a.json"
    local, write = type(file), type(file).write_text

    def meanwhile(path, text):
        write(path, text[:1])
        monkeypatch.setattr(local, "write_text", write)
        storage.write_text(file, "second")
        write(path, text)

    monkeypatch.setattr(local, "write_text", meanwhile)
    storage.write_text(file, "first")
    assert file.read_text() == "first"

    def full(path, text):
        write(path, text[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_text(file, "third")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert file.read_text() == "first"
