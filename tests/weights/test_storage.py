"""Places here and in a bucket; a bucket that cannot be opened is told in one line."""

from __future__ import annotations

import sys

import pytest

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
