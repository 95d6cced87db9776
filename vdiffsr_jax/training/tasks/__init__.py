"""One file per task, found by name and imported when it is asked for.

A run's `task` is one of `TASKS`, or "module:Class" of a `Task` outside of this package.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

from vdiffsr_jax.config import ConfigError, ExpectedError, first_line

if TYPE_CHECKING:
    from vdiffsr_jax.training.config import TrainConfig
    from vdiffsr_jax.training.tasks.task import Task

_HERE = "vdiffsr_jax.training.tasks"
TASKS = {
    "vqgan": f"{_HERE}.vqgan:VQGANTask",
    "tokenizer": f"{_HERE}.tokenizer:TokenizerTask",
    "var": f"{_HERE}.var:VARTask",
    "align": f"{_HERE}.align:AlignTask",
    "teacher": f"{_HERE}.teacher:TeacherTask",
    "distill": f"{_HERE}.distill:DistillTask",
}


def find(name: object) -> type[Task[Any, Any]]:
    """The class of a task.

    Raises: ConfigError if there is none of this name.
    """
    from vdiffsr_jax.training.tasks.task import Task

    if isinstance(name, str) and (name in TASKS or ":" in name):
        try:
            found = pkgutil.resolve_name(TASKS.get(name, name))
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"task={name!r} cannot be imported: {error}") from None
        if isinstance(found, type) and issubclass(found, Task):
            return found
    raise ConfigError(f"task={name!r} must be one of {', '.join(TASKS)}, or module:Class of a Task")


def make(cfg: TrainConfig) -> Task[Any, Any]:
    """The task of a configuration, checked; no device has been touched.

    Raises: ConfigError, CheckpointError.
    """
    try:
        return find(cfg.task)(cfg)
    except ExpectedError:
        raise
    except ValueError as error:  # a network that its settings do not give
        raise ConfigError(f"the networks of task={cfg.task} cannot be built as set: {first_line(error)}") from error
