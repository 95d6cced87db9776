"""Trains the toy or one task of configs/smoke.py for four steps in its own process; killed after the third if asked."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.training.toy import ToyTask, toy_config
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.cli import runs
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.loop import Run


def config(root: Path, name: str) -> TrainConfig:
    """The task's settings, with a checkpoint after two of four steps; it reads what the chain in `root` made."""
    if name == "toy":
        return toy_config(eval={"every": 0})
    settings = runs(read_config_file(Path(__file__).parents[2] / "configs" / "smoke.py"), root)[root / name]
    changes = {"steps": 4, "batch_size": 8, "checkpoint": {"every": 2}, "eval": {"every": 0}}
    return parse_train({**settings, **changes})


def main() -> None:
    """root, task, directory of the run, and "kill" or "keep"."""
    root, name, workdir, end = sys.argv[1:]
    if name == "toy":
        tasks.make = ToyTask  # type: ignore[assignment]
        Run._export = lambda self, directory: None  # type: ignore[method-assign]
    run = Run(config(Path(root), name), Path(workdir))
    report = run._report

    def maybe_kill(step: int, window: object) -> None:
        report(step, window)  # type: ignore[arg-type]
        if step == 3 and end == "kill":
            run.checkpoints.manager.wait_until_finished()
            os.kill(os.getpid(), signal.SIGKILL)

    run._report = maybe_kill  # type: ignore[method-assign]
    run.run()


if __name__ == "__main__":
    main()
