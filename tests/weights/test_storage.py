"""Places here and in a bucket; a bucket that cannot be opened is told in one line."""

from __future__ import annotations

import sys

import pytest

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
