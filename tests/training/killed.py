"""Trains the toy or one task of configs/smoke.py for four steps in its own process, which may end badly."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from etils import epath

from tests.training.toy import ToyTask, toy_config
from vdiffsr_jax.cli.train import runs
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.weights.checkpoint import CheckpointError


def config(root: Path, name: str) -> TrainConfig:
    """The task's settings, with a checkpoint after two of four steps; it reads what the chain in `root` made."""
    if name == "toy":
        return toy_config(eval={"every": 0})
    settings = runs(read_config_file(Path(__file__).parents[2] / "configs" / "smoke.py"), root)[root / name]
    changes = {"steps": 4, "batch_size": 8, "checkpoint": {"every": 2}, "eval": {"every": 0}}
    return parse_train({**settings, **changes})


def main() -> None:
    """root, task, directory of the run, and its end.

    "keep" trains on; "kill" kills after step 3; "kill_saving MS" so many ms into the saving of step 4; "full" lets no
    file grow beyond what a log line needs after step 3, as a full disk does; "trace" traces steps 2 and 3.
    """
    root, name, workdir, end, *delay = sys.argv[1:]
    if name == "toy":
        tasks.make = ToyTask  # type: ignore[assignment]
        Run._export = lambda self, directory: None  # type: ignore[method-assign]
    run = Run(config(Path(root), name), epath.Path(workdir), profile=(2, 3) if end == "trace" else None)
    report = run._report

    def maybe_kill(step: int, window: object) -> None:
        report(step, window)  # type: ignore[arg-type]
        if step == 3 and end == "kill":
            run.checkpoints.manager.wait_until_finished()
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 3 and end == "full":
            run.checkpoints.manager.wait_until_finished()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))

    save = run._save

    def maybe_kill_saving(step: int, *args: Any, **options: Any) -> None:
        if step == 4 and end == "kill_saving":
            run.checkpoints.manager.wait_until_finished()
            threading.Timer(float(delay[0]) / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
        save(step, *args, **options)

    run._save = maybe_kill_saving  # type: ignore[method-assign]
    run._report = maybe_kill  # type: ignore[method-assign]
    try:
        run.run()
    except CheckpointError as error:  # as the command line does
        sys.exit(str(error))
    if end == "kill_saving":
        threading.Event().wait()


if __name__ == "__main__":
    main()
