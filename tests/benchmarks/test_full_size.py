"""The run at the published size: that its files are the published ones, and that a step is done once, or killed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import full_size, random_weights
from benchmarks.full_size import Step
from tests.conversion.test_autoencoders import manifest


@pytest.mark.parametrize("name", ["resshift_realsrx4_s15_v1", "autoencoder_vq_f4", "var_d16", "vae_ch160v4096z32"])
def test_names_and_shapes_are_the_published_ones(monkeypatch, name):
    monkeypatch.setattr(random_weights, "fill", lambda name, shape: np.broadcast_to(np.float32(0), shape))
    made = random_weights.tensors(*random_weights.networks("published")[name])
    published = {key: (tuple(spec["shape"]), spec["dtype"]) for key, spec in manifest(name)["tensors"].items()}
    assert {key: (value.shape, str(value.dtype)) for key, value in made.items()} == published


def test_published_sizes_are_told_by_the_files_alone():
    words = [word for step in full_size.steps("published") for word in step.arguments]
    assert str(full_size.ROOT / "configs" / "vdiffsr_x4.py") in words
    assert not [word for word in words if word.endswith(".json")]


def python(name: str, code: str, kill_at: str | None = None) -> Step:
    return Step(name, ["-c", code], kill_at)


def test_a_step_is_killed_where_it_should_be_and_not_repeated(tmp_path, monkeypatch):
    done = [
        python("first", "open('count', 'a').write('x')"),
        python("killed", "import os, time; os.mkdir('state'); time.sleep(60)", kill_at="state"),
        python("large", "b = b'x' * 300_000_000"),
        python("wrong", "print('no such thing'); raise SystemExit(3)"),
    ]
    monkeypatch.setattr(full_size, "steps", lambda preset: done)
    with pytest.raises(SystemExit, match="wrong: exit code 3; what it said stands in"):
        full_size.measure("small", tmp_path)
    assert "no such thing" in (tmp_path / "log").read_text()
    done[-1] = python("mended", "pass")
    rows = full_size.measure("small", tmp_path)
    assert [row["step"] for row in rows] == ["first", "killed", "large", "mended"]
    assert (tmp_path / "count").read_text() == "x"
    assert rows[2]["memory GB"] > 0.2
    assert rows == json.loads((tmp_path / "steps.json").read_text())
    assert "| mended |" in (tmp_path / "steps.md").read_text()


def test_a_step_that_ends_before_it_is_killed_has_failed(tmp_path):
    with pytest.raises(SystemExit, match="exit code 0"):
        full_size.run(python("early", "pass", kill_at="state"), tmp_path)
