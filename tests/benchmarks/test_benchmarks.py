"""The benchmarks at work on tiny sizes."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from benchmarks import accelerator, bfloat16, host, rows
from benchmarks.rows import Row
from tests.training import tiny
from vdiffsr_jax.config import VDiffSRConfig, parse
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.settings import with_settings


def test_the_host_feeds_instant_devices():
    wall, busy = host.seconds_a_tile(16, 8, 48, 1)
    assert wall > 0
    assert busy >= 0


def measured(tmp_path, table, seconds=60):
    made = [Row(name, dict, lambda _, function=function: function()) for name, function in table]
    return rows.measure(made, seconds, tmp_path / "out")


@pytest.mark.parametrize("error", [ValueError, NotImplementedError, TypeError, jax.errors.JaxRuntimeError])
def test_rows_are_kept_one_after_the_other(tmp_path, capsys, error):
    def broken():
        raise error("no such kernel\nand more")

    done = measured(tmp_path, [("first", lambda: {"x": 1.5}), ("second", broken), ("third", lambda: {"y": 2})])
    why = f"{error.__name__}: no such kernel"
    assert done == [{"row": "first", "x": 1.5}, {"row": "second", "failed": why}, {"row": "third", "y": 2}]
    assert json.loads((tmp_path / "out.json").read_text()) == done
    assert "| first | x 1.5 |" in (tmp_path / "out.md").read_text()
    assert "in broken" in capsys.readouterr().err


def test_what_does_not_fit_is_said(tmp_path):
    done = measured(tmp_path, [("first", dict), ("second", dict)], -1)
    assert [row["not run"] for row in done] == ["not finished within -1 s"] * 2


def test_a_row_is_left_when_the_time_is_over(tmp_path):
    def endless():
        while True:
            time.sleep(0.01)

    started = time.monotonic()
    done = measured(tmp_path, [("first", lambda: {"x": 1}), ("endless", endless), ("third", lambda: {"y": 2})], 0.3)
    assert time.monotonic() - started < 3
    assert done[0] == {"row": "first", "x": 1}
    assert [row["not run"] for row in done[1:]] == ["not finished within 0 s"] * 2
    assert "not run" in (tmp_path / "out.md").read_text()


def test_a_row_waits_for_no_other_and_is_timed_again_alone(tmp_path):
    go, order, speeds = threading.Event(), [], {"slow": [3.0, 2.0], "quick": [1.0, 4.0], "once": [5.0]}

    def slow():
        assert go.wait(30)

    def note(name):
        order.append(name)
        go.set()
        return {"TFLOP/s": speeds[name].pop(0)}

    made = [Row("slow", slow, lambda _: note("slow")), Row("quick", dict, lambda _: note("quick"))]
    made.append(Row("once", dict, lambda _: note("once"), timed=False))
    done = rows.measure(made, 60, tmp_path / "out")
    assert order[0] == "quick"
    assert [row["TFLOP/s"] for row in done] == [3.0, 4.0, 5.0]


def test_towards_the_end_it_is_timed_again_beside_others(tmp_path):
    stop, times = threading.Event(), []

    def timed(_):
        times.append(time.monotonic())
        return {"TFLOP/s": len(times)}

    started = time.monotonic()
    done = rows.measure([Row("quick", dict, timed), Row("endless", lambda: stop.wait(30))], 1.0, tmp_path / "out")
    stop.set()
    assert done == [{"row": "quick", "TFLOP/s": 2}, {"row": "endless", "not run": "not finished within 1 s"}]
    assert 0.8 < times[1] - started < 1.2


def test_the_rows_of_both_presets():
    with ThreadPoolExecutor(1) as threads:
        names = [row.name for row in accelerator.rows("published", threads)]
    assert len(set(names)) == len(names) == 18
    assert names[:3] == ["device", "data feed", "parity vqgan_f4, float32"]


def test_the_training_row_trains(monkeypatch):
    tiny_run = with_settings(tiny.chain()["teacher"], [f"batch_size={jax.device_count()}"])
    monkeypatch.setattr(accelerator, "_distill", lambda preset: parse_train(tiny_run))
    prepared = accelerator.distill("small")
    for _ in range(2):
        row = accelerator.training("small", prepared)
        assert row["images/s"] > 0
        assert row["compile s"] > 0
        assert row["memory GiB"] > 0
        assert row["TFLOP/s"] > 0


def test_one_step_is_compiled_ahead_in_both_dtypes(monkeypatch):
    monkeypatch.setitem(accelerator.PRESETS, "tiny", parse(VDiffSRConfig, tiny.MODEL))
    with ThreadPoolExecutor(2) as threads:
        programs = {d: accelerator.stages("tiny", d, 1, threads) for d in accelerator.DTYPES}
        row = accelerator.inference("tiny", "bfloat16", 1, programs["bfloat16"])
    assert row["UNet, one step"] > 0
    assert row["TFLOP/s"] > 0
    assert 0 < accelerator.rounding("tiny", programs)["deviation / std"] < 2


def test_the_control_starts_half_a_rounding_away():
    params = {"a": jax.numpy.linspace(0.5, 2, 64), "b": jax.numpy.ones((4, 4))}
    for name, p in bfloat16.moved(params).items():
        np.testing.assert_allclose(np.abs(p / params[name] - 1), 2**-9, rtol=1e-3)


def test_distances_from_float32():
    found = {"float32": np.full(20, 2.0), "bfloat16": np.full(20, 2.1), "control": np.full(20, 1.9)}
    lines = bfloat16.table(found)
    assert len(lines) == 11
    assert lines[1].split() == ["1", "-", "2", "2", "2.1", "1.9", "5.0%", "-5.0%"]
