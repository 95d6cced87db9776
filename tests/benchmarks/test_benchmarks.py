"""The benchmarks at work on tiny sizes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import accelerator, bfloat16, data, full_size, host, inference, random_weights, rows
from benchmarks.command import refusing
from benchmarks.rows import Row
from tests.training import tiny
from vdiffsr_jax.config import ConfigError, ExpectedError, VDiffSRConfig, parse
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.settings import with_settings


def test_the_host_feeds_instant_devices():
    wall, busy = host.seconds_a_tile(16, 8, 48, 1)
    assert wall > 0
    assert busy >= 0


@pytest.mark.parametrize("error", [ValueError, NotImplementedError, TypeError, jax.errors.JaxRuntimeError])
def test_rows_are_kept_one_after_the_other(tmp_path, capsys, error):
    def broken():
        raise error("no such kernel\nand more")

    table = [Row("first", lambda: {"x": 1.5}), Row("second", broken), Row("third", lambda: {"y": 2})]
    done = rows.measure(table, 60, tmp_path / "out")
    why = f"{error.__name__}: no such kernel"
    assert done == [{"row": "first", "x": 1.5}, {"row": "second", "failed": why}, {"row": "third", "y": 2}]
    assert json.loads((tmp_path / "out.json").read_text()) == done
    assert "| first | x 1.5 |" in (tmp_path / "out.md").read_text()
    assert "in broken" in capsys.readouterr().err


ENDLESS = """
import sys, time
from pathlib import Path
from benchmarks.rows import Row, measure
rows = [Row("first", lambda: {"x": 1}), Row("endless", lambda: time.sleep(60)), Row("third", dict)]
measure(rows, 0.5, Path(sys.argv[1]))
"""


def test_when_the_time_is_over_it_ends_with_what_it_has(tmp_path):
    started = time.monotonic()
    run = subprocess.run([sys.executable, "-c", ENDLESS, tmp_path / "out"], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 30
    left = {"not run": "not finished within 0 s"}
    done = [{"row": "first", "x": 1}, {"row": "endless"} | left, {"row": "third"} | left]
    assert json.loads((tmp_path / "out.json").read_text()) == done
    assert run.stdout.endswith((tmp_path / "out.md").read_text() + "\n")
    assert "| third | not run not finished" in run.stdout


def test_a_measurement_that_fails_ends_no_process_later(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExpectedError, match="cannot be written"):
        rows.measure([Row("first", dict)], 1000, tmp_path / "file" / "out")
    with pytest.raises(KeyboardInterrupt):
        rows.measure([Row("first", mock.Mock(side_effect=KeyboardInterrupt))], 1000, tmp_path / "out")
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert not [timer for timer in timers if not timer.finished.is_set()]


@pytest.mark.parametrize(("preset", "count"), [("published", 23), ("small", 9)])
def test_the_rows_of_both_presets(preset, count):
    names = [row.name for row in accelerator.rows(preset)]
    assert len(set(names)) == len(names) == count
    assert names[0] == "device"
    assert names[1].startswith("model in the box, bfloat16")


def test_the_training_row_trains(monkeypatch):
    tiny_run = with_settings(tiny.chain()["teacher"], [f"batch_size={jax.device_count()}"])
    monkeypatch.setattr(accelerator, "_distill", lambda preset: parse_train(tiny_run))
    row = accelerator.training("small")
    assert row["images/s"] > 0
    assert row["compile s"] > 0
    assert row["memory GiB"] > 0
    assert row["TFLOP/s"] > 0


def test_one_step_is_compiled_once_in_both_dtypes(monkeypatch):
    monkeypatch.setitem(accelerator.PRESETS, "tiny", parse(VDiffSRConfig, tiny.MODEL))
    row = accelerator.inference("tiny", "bfloat16", 1)
    assert re.fullmatch(r"[\d.]+ \(TFLOP/s [\d.e-]+\)", row["UNet, one step"])
    assert row["TFLOP/s"] > 0
    assert 0 < accelerator.rounding("tiny", 1)["deviation / std"] < 2
    assert accelerator.stages.cache_info().misses == 2


def test_a_network_in_bfloat16_is_compared_with_its_reference():
    row = accelerator.deviation("swin_unet")
    assert row["arrays"] > 40
    assert 1e-4 < row["median"] < 0.1


def test_the_control_starts_half_a_rounding_away():
    params = {"a": jax.numpy.linspace(0.5, 2, 64), "b": jax.numpy.ones((4, 4))}
    for name, p in bfloat16.moved(params).items():
        np.testing.assert_allclose(np.abs(p / params[name] - 1), 2**-9, rtol=1e-3)


def test_distances_from_float32():
    found = {"float32": np.full(20, 2.0), "bfloat16": np.full(20, 2.1), "control": np.full(20, 1.9)}
    lines = bfloat16.table(found)
    assert len(lines) == 11
    assert lines[1].split() == ["1", "-", "2", "2", "2.1", "1.9", "5.0%", "-5.0%"]
    short = bfloat16.table({name: losses[:5] for name, losses in found.items()})
    assert [line.split()[0] for line in short[1:]] == ["1", "2", "3", "4", "5"]


def test_a_checkpoint_is_timed_with_its_prior(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inference", "--ckpt", "model", "--no-prior"])
    with pytest.raises(SystemExit, match="2"):
        inference.main()
    assert "--no-prior is for a --preset" in capsys.readouterr().err


def test_a_photo_is_timed_beside_its_stages():
    config = parse(VDiffSRConfig, tiny.MODEL)
    items = {name: network.init(jax.random.key(0)) for name, network in assemble(config).networks.items()}
    lines = inference.report(config, items, 1, jnp.dtype("float32"), 1, photo=2).splitlines()
    assert lines[-2].startswith("in a photo of 2 tiles: ")


def test_a_refusal_is_a_line_and_a_fault_of_ours_keeps_its_trace(tmp_path, capsys):
    def command(error):
        if error is not None:
            raise error

    main = refusing(command)
    assert main(None) == 0
    assert main(ConfigError("so not")) == 2
    assert capsys.readouterr().err == "error: so not\n"
    assert main(FileNotFoundError(2, "No such file or directory", "weights")) == 1
    assert capsys.readouterr().err == "error: [Errno 2] No such file or directory: 'weights'\n"
    for ours in (OSError("broken"), ValueError("shapes")):
        with pytest.raises(type(ours)):
            main(ours)


@pytest.mark.parametrize(
    ("module", "flags", "code", "message"),
    [
        (inference, "--ckpt {here}/none", 2, "error: {here}/none: no such directory"),
        (inference, "--ckpt {here}", 2, "error: {here} is no checkpoint"),
        (data, "--input {here}/none", 2, "error: {here}/none is neither a folder"),
        (bfloat16, "--config {here}/none.py", 2, "error: --config {here}/none.py: no such file"),
        (random_weights, "--output {here}/file/folder", 1, "error: [Errno 20] Not a directory"),
        (full_size, "--output {here}/file/folder", 1, "error: [Errno 20] Not a directory"),
        (accelerator, "--output {here}/file/rows --only device", 1, "error: cannot be written to {here}/file/"),
    ],
)
def test_what_is_missing_is_one_line(module, flags, code, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["command", *flags.format(here=tmp_path).split()])
    assert module.main() == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(message.format(here=tmp_path))


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        (inference, "--batch 0"), (inference, "--photo -1"), (host, "--count 0"), (accelerator, "--seconds nan"),
        (accelerator, "--only ("), (data, "--input x --count 0"), (data, "--input x --crop-size -4"),
    ],
)  # fmt: skip
def test_numbers_out_of_their_range_are_wrong_usage(module, flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", *flags.split()])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "error: argument --" in capsys.readouterr().err
