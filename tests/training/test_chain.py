"""`vdiffsr_jax.train`: values or a file in, the runs' folders out."""

from __future__ import annotations

import subprocess
import sys

import jax
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


def test_the_devices_that_a_run_asks_for_are_made_or_missed(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    values, count = to_dict(toy_config(steps=1, eval={"every": 0})), jax.device_count()
    with pytest.raises(ConfigError, match=f"mesh.cpu_devices=3: JAX has begun with {count} here"):
        vdiffsr_jax.train(values, tmp_path / "three", ["mesh.cpu_devices=3"])
    assert vdiffsr_jax.train(values, tmp_path / "all", [f"mesh.cpu_devices={count}"]) == [tmp_path / "all"]
    code = (
        "import jax, vdiffsr_jax\n"
        "from vdiffsr_jax.training import sequence\n"
        "sequence.run = lambda *args, **options: print(jax.device_count())\n"
        "values = {'task': 'vqgan', 'data': {'synthetic_fraction': 1.0}, 'mesh': {'cpu_devices': 3}}\n"
        f"vdiffsr_jax.train(values, {str(tmp_path / 'run')!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"3\n"
