"""The benchmarks at work on tiny sizes."""

from __future__ import annotations

import json
import time

import jax
import numpy as np

from benchmarks import accelerator, bfloat16, host
from tests.training import tiny
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.settings import with_settings


def test_the_host_feeds_instant_devices():
    wall, busy = host.seconds_a_tile(16, 8, 48, 1)
    assert wall > 0
    assert busy >= 0


def test_rows_are_kept_one_after_the_other(tmp_path, monkeypatch):
    def broken():
        raise ValueError("no such kernel\nand more")

    rows = [("first", lambda: {"x": 1.5}), ("second", broken), ("third", lambda: {"y": 2})]
    monkeypatch.setattr(accelerator, "rows", lambda preset: iter(rows))
    done = accelerator.measure("small", 60, tmp_path / "out")
    assert done == [{"row": "first", "x": 1.5}, {"row": "second", "failed": "no such kernel"}, {"row": "third", "y": 2}]
    assert json.loads((tmp_path / "out.json").read_text()) == done
    assert "| first | x 1.5 |" in (tmp_path / "out.md").read_text()


def test_what_does_not_fit_is_said(tmp_path):
    done = accelerator.measure("small", -1, tmp_path / "out")
    assert len(done) == 7
    assert all("not run" in row for row in done)


def test_a_row_is_left_when_the_time_is_over(tmp_path, monkeypatch):
    def endless():
        while True:
            time.sleep(0.01)

    rows = [("first", lambda: {"x": 1}), ("endless", endless), ("third", lambda: {"y": 2})]
    monkeypatch.setattr(accelerator, "rows", lambda preset: iter(rows))
    started = time.monotonic()
    done = accelerator.measure("small", 0.3, tmp_path / "out")
    assert time.monotonic() - started < 3
    assert done == [
        {"row": "first", "x": 1},
        {"row": "endless", "not run": "begun, but 0 s were over"},
        {"row": "third", "not run": "0 s were over"},
    ]
    assert "not run" in (tmp_path / "out.md").read_text()


def test_the_training_row_trains(monkeypatch):
    tiny_run = with_settings(tiny.chain()["teacher"], [f"batch_size={jax.device_count()}"])
    monkeypatch.setattr(accelerator, "_distill", lambda preset: parse_train(tiny_run))
    row = accelerator.training("small")
    assert row["images/s"] > 0
    assert row["compile s"] > 0
    assert row["memory GiB"] > 0
    assert row["TFLOP/s"] > 0


def test_the_control_starts_half_a_rounding_away():
    params = {"a": jax.numpy.linspace(0.5, 2, 64), "b": jax.numpy.ones((4, 4))}
    for name, p in bfloat16.moved(params).items():
        np.testing.assert_allclose(np.abs(p / params[name] - 1), 2**-9, rtol=1e-3)


def test_distances_from_float32():
    found = {"float32": np.full(20, 2.0), "bfloat16": np.full(20, 2.1), "control": np.full(20, 1.9)}
    lines = bfloat16.table(found)
    assert len(lines) == 11
    assert lines[1].split() == ["1", "-", "2", "2", "2.1", "1.9", "5.0%", "-5.0%"]
