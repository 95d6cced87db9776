"""Files that grow, here and in a bucket; a bucket that cannot be opened is told in one line."""

from __future__ import annotations

import sys

import pytest
from etils import epath

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.weights import storage


@pytest.mark.parametrize("remote", [False, True])
def test_a_file_goes_on_where_it_was(tmp_path, remote):
    path = epath.Path(tmp_path / "log")
    for text in (b"one\n", b"two\n"):
        file = storage.GrowingFile(path, remote=remote)
        file.write(text)
        file.write(b"more\n")
        file.close()
    assert path.read_bytes() == b"one\nmore\ntwo\nmore\n"


def test_a_bucket_is_written_at_most_once_a_minute(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(storage.time, "monotonic", lambda: now[0])
    file = storage.GrowingFile(epath.Path(tmp_path / "log"), remote=True)
    file.write(b"a")
    assert not file.path.exists()
    now[0] += storage.REMOTE_SECONDS
    file.write(b"b")
    assert file.path.read_bytes() == b"ab"


def test_places():
    assert storage.place("runs/x").is_absolute()
    assert not storage.is_remote("/runs/x")
    assert storage.is_remote("gs://bucket/x")


def test_a_bucket_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"gs://bucket/x: .*pip install gcsfs"):
        storage.place("gs://bucket/x")
