"""The chain of configs/smoke.py, trained once per session for the slow tests; and its configurations alone."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vdiffsr_jax.cli.train import runs
from vdiffsr_jax.config import to_dict
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.models import kinds

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "configs" / "smoke.py"
KINDS = {
    "vqgan": "vqgan",
    "tokenizer": "var_tokenizer",
    "var": "var",
    "align": "pvar",
    "teacher": "vdiffsr",
    "distill": "vdiffsr",
}


@pytest.fixture(scope="session")
def chain(tmp_path_factory, worker_id) -> Path:
    """All five tasks, trained by whichever of pytest's processes needs them first."""
    alone = worker_id == "master"
    root = tmp_path_factory.mktemp("chain") if alone else tmp_path_factory.getbasetemp().parent / "chain"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "done").exists():
            # As a user runs it: what README's same command compiled is in the user's cache.
            command = [sys.executable, "train.py", "--config", str(SMOKE), "--workdir", str(root)]
            env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
            subprocess.run(command, cwd=ROOT, env=env, check=True)
            (root / "done").touch()
    return root


@pytest.fixture(scope="session")
def chain_configs(tmp_path_factory) -> Path:
    """What a trained chain tells before any array is read: tasks can be made and traced from it."""
    root = tmp_path_factory.mktemp("configs")
    for workdir, settings in runs(read_config_file(SMOKE), root).items():
        write_config(workdir / "model", KINDS[settings["task"]], settings["model"])
    write_config(root / "perceptual", "perceptual", {"backbone": "efficientnet_lite0"})
    return root


def write_config(directory: Path, kind: str, values: dict) -> None:
    """A checkpoint's config.json without its arrays."""
    directory.mkdir(parents=True)
    config = to_dict(kinds.parse_config(kind, values))
    content = {"format": 1, "kind": kind, "config": config, "sources": []}
    (directory / "config.json").write_text(json.dumps(content))
