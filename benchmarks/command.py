"""What the commands here share: refusals in a line, and what the pictures of photos are called."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.sampling import files

P = ParamSpec("P")


def refusing(main: Callable[P, int | None]) -> Callable[P, int]:
    """The command with an exit code; what can go wrong without a fault of ours is a line on stderr."""

    @functools.wraps(main)
    def run(*args: P.args, **flags: P.kwargs) -> int:
        try:
            return main(*args, **flags) or 0
        except (ExpectedError, OSError) as error:
            if not isinstance(error, ExpectedError) and error.filename is None:
                raise
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code if isinstance(error, ExpectedError) else 1

    return run


class LeftOut:
    """Is told of pictures that cannot be used, and tells the person; `exit_code` is 1 if there were any."""

    exit_code = 0

    def __call__(self, name: str, kind: str, why: str) -> None:
        self.exit_code = 1
        print(f"{name}: {why}; left out", file=sys.stderr)


def results(photos: str, folder: Path) -> dict[str, Path]:
    """{photo, named as by `read_cases`: its picture in a folder}, of two photos of one name named as by sample.py.

    Raises: UsageError if there are no photos, or one would be replaced.
    """
    tasks = files.plan(files.find(photos), folder, format="png", suffix="")
    return {task.name: task.target for task in tasks}
