"""What runs start from: the chain of configs/smoke.py as configurations alone, that of tiny networks with numbers."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training import tiny
from vdiffsr_jax.config import to_dict
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.models import kinds
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.chain import runs
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.weights import checkpoint

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
def tiny_chain(tmp_path_factory, worker_id) -> dict[str, TrainConfig]:
    """{name: run} of the tiny networks' chain, and what each starts from: drawn, not trained; what learns is not zero.

    Made by whichever of pytest's processes needs it first.
    """
    alone = worker_id == "master"
    root = tmp_path_factory.mktemp("tiny") if alone else tmp_path_factory.getbasetemp().parent / "tiny"
    root.mkdir(exist_ok=True)
    chain = {workdir: parse_train(settings) for workdir, settings in runs(tiny.chain(), root).items()}
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "done").exists():
            for workdir, cfg in chain.items():
                save_drawn(cfg, workdir / "model")
            (root / "done").touch()
    return {workdir.name: cfg for workdir, cfg in chain.items()}


def save_drawn(cfg: TrainConfig, directory: Path) -> None:
    """The checkpoint of a run that did not train, with noise on everything that would have."""
    here, rng = jax.sharding.SingleDeviceSharding(jax.devices()[0]), np.random.default_rng(0)
    task = tasks.make(cfg)
    flat = task.load(jax.random.key(0), lambda name, leaf: here)
    for name in filter(task.trainable, flat):
        flat[name] += 0.02 * rng.normal(size=flat[name].shape).astype(np.float32)
    kind, config, items = task.export(flat)
    checkpoint.save_model(directory, items, kind=kind, config=config)


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
