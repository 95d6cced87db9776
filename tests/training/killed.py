"""Trains the toy for four steps in its own process, which may end badly."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from typing import Any

from etils import epath

from tests.training.toy import ToyTask, toy_config
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.weights.checkpoint import CheckpointError


def config() -> TrainConfig:
    """The toy's settings: a checkpoint after two of four steps."""
    return toy_config(eval={"every": 0})


def main() -> None:
    """The directory of the run and its end.

    "keep" trains on; "kill" kills after step 3; "kill_saving MS" so many ms into the saving of step 4; "full" lets no
    file grow beyond what a log line needs after step 3, as a full disk does; "trace" traces steps 2 and 3.
    """
    workdir, end, *delay = sys.argv[1:]
    tasks.make = ToyTask  # type: ignore[assignment]
    Run._export = lambda self, directory: None  # type: ignore[method-assign]
    run = Run(config(), epath.Path(workdir), profile=(2, 3) if end == "trace" else None)
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
