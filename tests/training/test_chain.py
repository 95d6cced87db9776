"""`vdiffsr_jax.train`: values or a file in, the runs' folders out."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

import vdiffsr_jax
from tests.training.toy import toy_config, use_toy
from vdiffsr_jax.config import ConfigError, to_dict


def test_a_chain_of_values_trains_in_folders_of_its_own(tmp_path, monkeypatch):
    exported = []
    use_toy(monkeypatch, exported)
    values = to_dict(toy_config(steps=2))
    folders = vdiffsr_jax.train(ConfigDict({"first": values, "second": values}), tmp_path, ["eval.every=0"])
    assert folders == [tmp_path / "first", tmp_path / "second"]
    assert all((folder / "log.jsonl").is_file() for folder in folders)
    with pytest.raises(ConfigError, match="batch_sise"):
        vdiffsr_jax.train(values, tmp_path / "third", ["batch_sise=2"])
    assert not (tmp_path / "third").exists()
