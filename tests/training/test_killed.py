"""kill -9 after step 3, resumed from the checkpoint of step 2: after step 4 everything equals an unbroken run's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest

from tests.training import killed
from tests.training.test_loop import assert_same_state
from tests.training.toy import use_toy
from vdiffsr_jax.training.loop import Run

ROOT = Path(__file__).parents[2]


def start(workdir: Path, *end: str, **options: Any) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.training.killed", str(workdir), *end]
    # Compiling is nearly all of the time: the other two runs take what the first one compiled.
    quick = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "programs"),
    }
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | quick, stdout=subprocess.DEVNULL, **options)


def saved(workdir: Path) -> Any:
    """`state` and `about` of step 4 as they lie on disk."""
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(), about=ocp.args.JsonRestore())
        return manager.restore(4, args=items)


def test_loop_killed_equals_unbroken(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    assert start(tmp_path / "broken", "kill").wait() == -signal.SIGKILL
    assert (tmp_path / "broken" / "checkpoints" / "2").exists()
    resumed, whole = (start(tmp_path / end, "keep") for end in ("broken", "unbroken"))
    assert (resumed.wait(), whole.wait()) == (0, 0)
    broken, unbroken = (saved(tmp_path / end) for end in ("broken", "unbroken"))
    assert int(broken.state["step"]) == 4
    assert_same_state(broken.state, unbroken.state)
    assert broken.about == unbroken.about
    assert broken.about["data"] == {"step": 4}


@pytest.mark.slow
@pytest.mark.parametrize("milliseconds", [0, 10, 40, 120])
def test_a_save_that_was_interrupted_is_not_the_latest(tmp_path, monkeypatch, milliseconds):
    assert start(tmp_path / "a", "kill_saving", str(milliseconds)).wait() == -signal.SIGKILL
    use_toy(monkeypatch)
    with contextlib.closing(Run(killed.config(), tmp_path / "a")) as run:
        assert int(run.state.step) in (2, 4)
        assert run.data.get_state() == {"step": int(run.state.step)}
    assert start(tmp_path / "a", "keep").wait() == 0


def test_a_full_disk_is_told_and_the_state_before_it_stays(tmp_path, monkeypatch):
    run = start(tmp_path / "a", "full", stderr=subprocess.PIPE, text=True)
    error = run.communicate()[1]
    assert run.returncode == 1
    assert "saving failed, step 2 is whole and the run continues there: " in error
    assert "File too large" in error
    assert len(error.splitlines()) == 1, error
    use_toy(monkeypatch)
    with contextlib.closing(Run(killed.config(), tmp_path / "a")) as again:
        assert int(again.state.step) == 2
