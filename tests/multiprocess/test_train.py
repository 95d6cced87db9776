"""Processes over loopback train as one: same numbers and samples through SIGTERM, kill -9 and other host counts.

What every process used is compared as sums of its images, step by step, so a sample that is lost or doubled shows.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.multiprocess import job
from vdiffsr_jax.cli.train import DONE, FAILED, INTERRUPTED
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.weights import checkpoint

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"steps": 6, "checkpoint": {"every": 2}, "eval": {"every": 0}}
ENDED_WITHIN = 60  # seconds, after one process was killed


def used(workdir: Path) -> dict[int, list[float]]:
    """{step: the samples of all processes, sorted}; of a step that was done twice, the last time counts."""
    steps: dict[int, dict[str, list[float]]] = {}
    for file in workdir.glob("used_*.jsonl"):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            steps.setdefault(record["step"], {})[file.name] = record["samples"]
    return {step: sorted(itertools.chain(*parts.values())) for step, parts in steps.items()}


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    with np.load(workdir / "state_0.npz") as state:
        return dict(state)


def losses(workdir: Path) -> list[float]:
    return [line["loss"] for line in read_log(workdir) if line["kind"] == "train"]


def assert_same(a: Path, b: Path, *, exact: bool) -> None:
    assert used(a) == used(b)
    assert losses(a) == pytest.approx(losses(b), rel=0 if exact else 2e-5)
    left, right = parameters(a), parameters(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=0, atol=0 if exact else 2e-5, err_msg=name)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """Two processes, one device each, never disturbed."""
    workdir = tmp_path_factory.mktemp("unbroken")
    assert job.run(workdir, 2, settings=SETTINGS) == [DONE, DONE], job.logs(workdir)
    assert sorted(used(workdir)) == [1, 2, 3, 4, 5, 6]
    assert all(len(set(samples)) == 8 for samples in used(workdir).values())
    assert checkpoint.load_model(workdir / "model").kind == "vqgan", "both processes took part in the export"
    return workdir


@pytest.mark.parametrize(("processes", "devices"), [(1, 2), (4, 1)])
def test_processes_compute_what_one_does(unbroken, tmp_path, processes, devices):
    assert job.run(tmp_path, processes, devices=devices, settings=SETTINGS) == [DONE] * processes, job.logs(tmp_path)
    assert_same(tmp_path, unbroken, exact=False)


def test_only_process_0_speaks(unbroken):
    assert "step 6/6" in (unbroken / "process_0.log").read_text()
    assert "step" not in (unbroken / "process_1.log").read_text()


def test_sharded_over_processes_computes_the_same(unbroken, tmp_path):
    settings = SETTINGS | {"mesh": {"fsdp": 2, "min_shard_size": 1}}
    assert job.run(tmp_path, 2, settings=settings) == [DONE, DONE], job.logs(tmp_path)
    assert used(tmp_path) == used(unbroken)
    assert losses(tmp_path) == pytest.approx(losses(unbroken), rel=2e-5)


def test_sigterm_at_one_process_stops_all_at_one_step(unbroken, tmp_path):
    endless = SETTINGS | {"steps": 10**6, "checkpoint": {"every": 10**5}}
    codes = job.run(tmp_path, 2, settings=endless, ends={1: ("term", 2)})
    assert codes == [INTERRUPTED, INTERRUPTED], job.logs(tmp_path)
    saved = max(int(folder.name) for folder in (tmp_path / "checkpoints").iterdir())
    assert max(used(tmp_path)) == saved, "both processes stopped after the same step, and saved it"
    if saved < 6:  # the machine decides how many steps a second is worth
        assert job.run(tmp_path, 2, settings=SETTINGS) == [DONE, DONE], job.logs(tmp_path)
        assert_same(tmp_path, unbroken, exact=True)


def test_killed_process_ends_the_others_and_the_restart_continues_exactly(unbroken, tmp_path):
    running = job.start(tmp_path, 2, settings=SETTINGS, ends={1: ("kill", 3)})
    running[1].wait()
    killed = time.monotonic()
    codes = job.wait(running, ENDED_WITHIN)
    assert time.monotonic() - killed < ENDED_WITHIN
    assert codes[1] == -signal.SIGKILL
    assert codes[0] in (FAILED, -signal.SIGABRT), job.logs(tmp_path)
    assert job.run(tmp_path, 2, settings=SETTINGS) == [DONE, DONE], job.logs(tmp_path)
    assert "continuing from step 2" in job.logs(tmp_path)
    assert_same(tmp_path, unbroken, exact=True)


@pytest.mark.parametrize("processes", [1, 4])
def test_other_number_of_hosts_continues(unbroken, tmp_path, processes):
    assert job.run(tmp_path, 2, settings=SETTINGS | {"steps": 3}) == [DONE, DONE], job.logs(tmp_path)
    assert job.run(tmp_path, processes, settings=SETTINGS) == [DONE] * processes, job.logs(tmp_path)
    assert "saved by 2 processes" in job.logs(tmp_path)
    for file in tmp_path.glob("used_*.jsonl"):  # of the first job only steps 1 to 3 count, of the second 4 to 6
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len({line["step"] for line in lines}) == len(lines)
    assert used(tmp_path) == used(unbroken)
    assert losses(tmp_path) == pytest.approx(losses(unbroken), rel=2e-5)


def test_soak_of_50_steps_with_kills_at_random_moments(tmp_path):
    settings = SETTINGS | {"steps": 50, "checkpoint": {"every": 3}}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert job.run(whole, 2, settings=settings) == [DONE, DONE], job.logs(whole)
    rng = random.Random(0)
    for kill in range(3):
        running = job.start(broken, 2, settings=settings)
        log, seen = broken / "process_0.log", 0
        until = time.monotonic() + 120
        wanted = len(log.read_text().splitlines()) + rng.randint(4, 14)
        while time.monotonic() < until and seen < wanted and running[0].poll() is None:
            time.sleep(0.01)
            seen = len(log.read_text().splitlines())
        time.sleep(rng.random() * 0.2)
        running[rng.randrange(2)].kill()
        codes = job.wait(running, ENDED_WITHIN)
        assert DONE not in codes, f"kill {kill} came too late"
    assert job.run(broken, 2, settings=settings) == [DONE, DONE], job.logs(broken)
    assert sorted(used(broken)) == list(range(1, 51))
    assert_same(broken, whole, exact=True)
