"""Several runs, each starting from what the ones before it made, in given steps or in given time."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from etils import epath

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.training.abstract import trace_step
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.heldout import OpenPairs
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.step import Compiled
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.task import Task
from vdiffsr_jax.training.timed import Timer, with_steps
from vdiffsr_jax.training.watch import Watch
from vdiffsr_jax.training.workdir import recorded, write_json

STEPS_FILE = "steps.json"
Promises = Mapping[str, tuple[str, Any]]


def read_steps(file: epath.Path) -> dict[str, int]:
    """{run: steps} as a timed chain wrote them; nothing if there is no such file.

    Raises: ConfigError if it is something else.
    """
    if not file.exists():
        return {}
    try:
        steps = json.loads(file.read_text())
    except ValueError:
        steps = None
    if not isinstance(steps, dict) or not all(isinstance(n, int) and n > 0 for n in steps.values()):
        raise ConfigError(f"{file} does not say how many steps each run has: {{name: steps}}")
    return steps


def run(
    configs: Mapping[epath.Path, TrainConfig],
    root: epath.Path,
    *,
    seconds: float | None = None,
    steps: Mapping[str, int] | None = None,
    profile: tuple[int, int] | None = None,
    open_pairs: OpenPairs | None = None,
    watch: Watch | None = None,
) -> list[epath.Path]:
    """Train all runs in order; those that are complete are left as they are.

    With `seconds`, runs whose steps are not yet in `root`/steps.json divide what is left by their `share` and write
    their numbers there; when the time is over, the run in progress is saved and stops. While one run trains, the next
    one's step is compiled.

    Args: configs: {directory: configuration}. steps: {directory's name: steps}, instead of the configuration's.
        open_pairs, watch: as `Run` takes them.
    Returns: the directories of the complete runs; if some are missing, the same call continues.
    """
    end = None if seconds is None else time.monotonic() + seconds
    known = dict(steps or {}) | read_steps(root / STEPS_FILE)
    queue = [(path, with_steps(cfg, known.get(path.name, cfg.steps))) for path, cfg in configs.items()]
    done = [path for path, cfg in queue if _complete(path, cfg)]
    queue = [(path, cfg) for path, cfg in queue if path not in done]

    def remember(name: str, count: int) -> None:
        known[name] = count
        if jax.process_index() == 0:
            write_json(root / STEPS_FILE, known)

    with contextlib.ExitStack() as stack:
        compiler = ThreadPoolExecutor(1, "compile")  # XLA does not hold the interpreter meanwhile
        stack.callback(compiler.shutdown, cancel_futures=True)
        ahead: Future[Compiled] | None = None
        for i, (path, cfg) in enumerate(queue):
            if jax.process_index() == 0:
                print(f"{cfg.task}: {path}", flush=True)
            timer = None
            if end is not None and path.name not in known:
                share = cfg.share / sum(later.share for _, later in queue[i:])
                timer = Timer(share * (end - time.monotonic()), cfg, functools.partial(remember, path.name))
                cfg = with_steps(cfg, max(cfg.steps, timer.probe + 1))
            current = Run(
                cfg, path, profile=profile, timer=timer, deadline=end, program=ahead, open_pairs=open_pairs, watch=watch
            )
            if i + 1 < len(queue):
                following, promises = queue[i + 1][1], _promises(current.task, path)

                def steady(following: TrainConfig = following, promises: Promises = promises) -> None:
                    nonlocal ahead
                    ahead = compiler.submit(_compile, following, promises)

                ahead, current.when_steady = None, steady
            if current.run().interrupted:
                break
            done.append(path)
    return done


def _complete(path: epath.Path, cfg: TrainConfig) -> bool:
    return recorded(path) == to_dict(cfg) and bool((path / "model" / "config.json").exists())


def _promises(task: Task[Any, Any], path: epath.Path) -> Promises:
    """The checkpoints that a run of `task` in `path` will have made."""
    made: list[tuple[str, Any]] = []
    jax.eval_shape(lambda flat: made.append(task.export(flat)[:2]), task.abstract())
    return {str(path / name): made[0] for name in ("model", "best")}


def _compile(cfg: TrainConfig, promises: Promises) -> Compiled:
    with sources.promised(promises):
        step = trace_step(cfg)
    return Compiled(step.traced, step.traced.lower().compile(), step.groups)
