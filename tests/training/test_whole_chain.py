"""All tasks in one chain that is given time, broken off in each, killed, continued, and repeated without a clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import tiny
from tests.training.broken_chain import AGAIN, STEPS, TIMED
from tests.training.test_killed import saved
from tests.training.test_loop import assert_same_state
from vdiffsr_jax.training.tasks import TASKS

ROOT = Path(__file__).parents[2]


def run(root: Path, how: str) -> int:
    # The second process takes what the first one compiled.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(root / "programs"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    command = [sys.executable, "-m", "tests.training.broken_chain", str(root), how]
    with (root / "told").open("a") as told:
        return subprocess.run(command, cwd=ROOT, env=os.environ | cache, stdout=told).returncode


@pytest.mark.slow
def test_a_broken_timed_chain_equals_an_unbroken_one_of_as_many_steps(tmp_path):
    assert {settings["task"] for settings in tiny.chain().values()} == set(TASKS)
    assert run(tmp_path, "breaking") == -signal.SIGKILL
    steps = json.loads((tmp_path / TIMED / "steps.json").read_text())
    assert steps == dict.fromkeys(tiny.chain(), STEPS)
    assert not (tmp_path / TIMED / "sharp" / "model").exists()
    assert run(tmp_path, "whole") == 0
    told = (tmp_path / "told").read_text()
    for name in steps:
        assert f"continuing from step {STEPS - 1 if name != 'sharp' else 2} of {tmp_path / TIMED / name}\n" in told
        broken, whole = (saved(tmp_path / chain / name) for chain in (TIMED, AGAIN))
        assert_same_state(broken.state, whole.state)
        assert broken.about["data"] == whole.about["data"] == {"step": STEPS}
