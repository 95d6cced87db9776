"""Held-out pairs: whole pictures through the model in training, scored by name."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from PIL import Image

from tests.pictures import dead_leaves
from tests.sampling.conftest import random_items, tiny_config
from tests.training.toy import ToyTask, toy_config, use_toy
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.evaluation.held_out import WholePairs
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.sampling.upscaler import Upscaler
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.training.tasks.task import Export


@pytest.fixture
def folders(tmp_path):
    """{hr, lr} of two pictures, larger than a tile."""
    for seed, name in enumerate(("a", "b")):
        hr = dead_leaves(seed, 72, 80)
        for part, image in (("hr", hr), ("lr", hr[::4, ::4])):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / part / f"{name}.png")
    return {part: str(tmp_path / part) for part in ("hr", "lr")}


def judged(folders, **changes):
    return toy_config(steps=2, eval={"every": 1, "batches": 1, "metrics": ["psnr"], "scores": "stablesr",
                                     "pairs": folders, "best": "pairs_psnr"} | changes)  # fmt: skip


def test_pairs_are_upscaled_whole_by_the_weights_of_the_moment(tmp_path, monkeypatch, folders):
    config = tiny_config(prior=False, num_steps=4)
    first = random_items(config)
    versions = [first, first | {"first_stage": jax.tree.map(lambda leaf: 0.9 * leaf, first["first_stage"])}]
    exports = iter(versions)
    use_toy(monkeypatch)
    monkeypatch.setattr(ToyTask, "sampling_steps", 1)
    monkeypatch.setattr(ToyTask, "export", lambda self, flat: Export("vdiffsr", config, next(exports)))
    run = Run(judged(folders), tmp_path / "run", open_pairs=WholePairs)
    run.run()
    got = [line["pairs_psnr"] for line in read_log(tmp_path / "run") if line["kind"] == "eval"]
    upscaler = Upscaler(config, versions[1])
    scores = [RULES["stablesr"].psnr(upscaler(case.given), case.hr) for case in run.pairs.cases]
    assert got[1] == pytest.approx(np.mean(scores), rel=1e-5)
    assert got[0] != got[1]
    assert run.best == pytest.approx(max(got), rel=1e-5)


def test_refusals(tmp_path, monkeypatch, folders):
    use_toy(monkeypatch)
    with pytest.raises(ConfigError, match=r"no eval.metrics"):
        judged(folders, metrics=[])
    with pytest.raises(ConfigError, match=r"eval.pairs: task vqgan makes no pictures of LR pictures alone"):
        Run(judged(folders), tmp_path / "run", open_pairs=WholePairs)
    monkeypatch.setattr(ToyTask, "sampling_steps", 1)
    with pytest.raises(ConfigError, match=r"eval.pairs: nothing here upscales whole pictures"):
        Run(judged(folders), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"eval.pairs: no such file or folder"):
        Run(judged(folders | {"hr": "nowhere"}), tmp_path / "run", open_pairs=WholePairs)
    Image.new("RGB", (80, 80)).save(tmp_path / "lr" / "c.png")
    with pytest.raises(ConfigError, match=r"eval.pairs: c is not in HR"):
        Run(judged(folders), tmp_path / "run", open_pairs=WholePairs)
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused(tmp_path, monkeypatch, folders):
    use_toy(monkeypatch)
    monkeypatch.setattr(ToyTask, "sampling_steps", 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"eval.pairs needs a single process and this run has 2: .*evaluate.py"):
        Run(judged(folders), tmp_path / "run", open_pairs=WholePairs)
