"""Format 1 is read, except where its numbers mean something else today."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.weights import checkpoint
from vdiffsr_jax.weights.checkpoint import CheckpointError


def as_format_1(path: Path) -> Path:
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | {"format": 1}))
    return path


def saved(path: Path, *, trained: bool) -> Path:
    """A model with a prior; the same-scale part of every W_o is zero unless trained."""
    config = tiny_config()
    items = random_items(config)
    flat = flatten(items["denoiser"])
    if not trained:
        dim = config.cspa.dim
        flat = {n: jnp.asarray(p).at[:dim].set(0) if n.endswith("w_o/kernel") and "cspa" in n else p
                for n, p in flat.items()}  # fmt: skip
    items["denoiser"] = unflatten(flat, items["denoiser"])
    checkpoint.save_model(path, items, kind="vdiffsr", config=config)
    return path


def test_a_trained_same_scale_branch_of_format_1_is_refused_by_name(tmp_path: Path):
    path = as_format_1(saved(tmp_path / "model", trained=True))
    with pytest.raises(CheckpointError, match=r"format 1 and a trained same-scale branch \(cspa\.same\)"):
        checkpoint.load_model(path)
    assert set(checkpoint.load_model(path, items=["first_stage", "pvar"]).items) == {"first_stage", "pvar"}


def test_an_untrained_one_and_format_2_are_read(tmp_path: Path):
    assert checkpoint.load_model(as_format_1(saved(tmp_path / "fresh", trained=False))).kind == "vdiffsr"
    assert checkpoint.load_model(saved(tmp_path / "two", trained=True)).kind == "vdiffsr"


def test_a_format_of_the_future_is_named(tmp_path: Path):
    path = saved(tmp_path / "model", trained=False)
    (path / "config.json").write_text((path / "config.json").read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(CheckpointError, match="has format 3; this version reads 1 and 2"):
        checkpoint.read_config(path)
