"""Utilisation by hand, chips by name, and a trace of chosen steps."""

from __future__ import annotations

import pytest

from tests.training.test_killed import start
from vdiffsr_jax.training.hardware import chip_of
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.training.speed import Speed


def test_chips_are_told_apart():
    names = [chip_of(kind) and chip_of(kind).name for kind in ("TPU v5 lite", "TPU v5", "NVIDIA H100 80GB HBM3", "cpu")]
    assert names == ["TPU v5e", "TPU v5p", "H100", None]


def test_utilisation_is_work_over_time_over_peak():
    speed = Speed(flops=394e12, chip=chip_of("TPU v5 lite"))
    assert speed.at(4.0) == pytest.approx({"tflops_per_device": 98.5, "mfu": 0.5})
    assert "mfu" not in Speed(flops=1e9, chip=None).at(1.0)


def test_a_run_logs_its_speed_and_traces_the_steps_it_was_asked_for(tmp_path):
    # In a process of its own: the profiler has crashed one that had compiled hundreds of programs before.
    assert start(tmp_path, "toy", tmp_path / "run", "trace").wait() == 0
    line = read_log(tmp_path / "run")[-1]
    assert line["step_ms"] > 0
    assert line["tflops_per_device"] > 0
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
