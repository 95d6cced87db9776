"""The chain of tests.training.tiny in a process of its own: given time, broken off in every run, killed in the last."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from etils import epath

from tests.training import tiny
from vdiffsr_jax.training import sequence, timed
from vdiffsr_jax.training.chain import runs
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.step import Compiled

TIMED, AGAIN = "timed", "again"
STEPS = 4  # two in the warm-up, the third decides how many there are, one more


class Broken(Run):
    """Told to stop in its third step, once; the chain's last run is killed there."""

    told: ClassVar[set[str]] = set()
    programs: ClassVar[dict[str, Future[Compiled]]] = {}  # compiled ahead of a run, it serves when that goes on, too

    def __init__(self, cfg: TrainConfig, workdir: epath.Path, **options: Any):
        if options["program"] is not None:
            self.programs[workdir.name] = options["program"]
        super().__init__(cfg, workdir, **options | {"program": self.programs.get(workdir.name)})

    def _step(self, batch: Any, step: int, window: Any) -> Any:
        metrics = super()._step(batch, step, window)
        if step == 2 and self.workdir.name not in self.told:
            self.told.add(self.workdir.name)
            os.kill(os.getpid(), signal.SIGTERM)
        return metrics

    def _report(self, step: int, window: Any) -> None:
        super()._report(step, window)
        if step == STEPS - 1 and self.workdir.name == "sharp":
            self.checkpoints.manager.wait_until_finished()
            os.kill(os.getpid(), signal.SIGKILL)


def configs(root: Path) -> dict[epath.Path, TrainConfig]:
    """The chain in the folder `root`."""
    return {path: parse_train(values) for path, values in runs(tiny.chain(), str(root)).items()}


def main() -> None:
    """root, "breaking" or "whole": the second goes on where the first was killed, then repeats all without a clock."""
    root, how = Path(sys.argv[1]), sys.argv[2]
    timed.SHARE = 0.0  # one step after those that were timed, however slow this machine is
    chain, folder = configs(root / TIMED), epath.Path(root / TIMED)
    if how == "breaking":
        sequence.Run = Broken  # type: ignore[misc]
        while True:
            sequence.run(chain, folder, seconds=10**6)
    assert len(sequence.run(chain, folder, seconds=10**6)) == len(chain)
    steps = sequence.read_steps(folder / sequence.STEPS_FILE)
    assert len(sequence.run(configs(root / AGAIN), epath.Path(root / AGAIN), steps=steps)) == len(chain)


if __name__ == "__main__":
    main()
