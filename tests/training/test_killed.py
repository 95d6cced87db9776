"""kill -9 after step 3, resumed from the checkpoint of step 2: after step 4 everything equals an unbroken run's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import killed
from tests.training.test_loop import assert_same_state
from vdiffsr_jax.training.cli import main
from vdiffsr_jax.training.loop import Run

ROOT = Path(__file__).parents[2]
TASKS = ("vqgan", "tokenizer", "var", "teacher", "distill")


def train(root: Path, name: str, workdir: Path, end: str) -> int:
    command = [sys.executable, "-m", "tests.training.killed", str(root), name, str(workdir), end]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=False, capture_output=True
    )
    return done.returncode


def killed_equals_unbroken(root: Path, name: str, tmp_path: Path) -> None:
    assert train(root, name, tmp_path / "broken", "kill") == -signal.SIGKILL
    assert train(root, name, tmp_path / "broken", "keep") == 0
    assert train(root, name, tmp_path / "unbroken", "keep") == 0
    with contextlib.ExitStack() as stack:
        broken, unbroken = (
            stack.enter_context(contextlib.closing(Run(killed.config(root, name), tmp_path / end)))
            for end in ("broken", "unbroken")
        )
        assert int(broken.state.step) == 4
        assert_same_state(broken.state, unbroken.state)
        assert broken.data.get_state() == unbroken.data.get_state() == {"step": 4}


def test_vqgan_killed_equals_unbroken(tmp_path):
    killed_equals_unbroken(tmp_path, "vqgan", tmp_path)


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Path:
    """All five tasks of configs/smoke.py, trained."""
    root = tmp_path_factory.mktemp("chain")
    assert main(["--config", str(ROOT / "configs" / "smoke.py"), "--workdir", str(root)]) == 0
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS[1:])
def test_killed_equals_unbroken(chain, name, tmp_path):
    killed_equals_unbroken(chain, name, tmp_path)
