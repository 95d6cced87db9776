"""The models compared: which checkpoint under which name, in how many steps; and what they make of the photos."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from vdiffsr_jax.evaluation.cases import Case, Cases
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.sampling.in_flight import Failure
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.tile_model import step_choices
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler
from vdiffsr_jax.weights import checkpoint

BICUBIC = "bicubic"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row: `name` in the table, checkpoint `directory`, sampling `steps`, `fidelity` of a model with two ends."""

    name: str
    directory: Path
    steps: int = 1
    fidelity: float | None = None


def parse_entries(checkpoints: Sequence[str], steps: Sequence[str], fidelities: Sequence[str] = ()) -> list[Entry]:
    """Rows from NAME=DIR (or DIR: its last part is the name), NAME:N and NAME:F; one step where nothing is said.

    Raises: UsageError for a name given twice, unknown or reserved, or a number that is none.
    """
    directories: dict[str, Path] = {}
    for text in checkpoints:
        name, equals, directory = text.partition("=")
        if not equals:
            name, directory = Path(text).name, text
        if not name or not directory:
            raise UsageError(f"--ckpt {text}: write NAME=DIRECTORY")
        if name in directories or name == BICUBIC:
            raise UsageError(f"--ckpt {text}: there is a row {name!r} already; give another NAME=DIRECTORY")
        directories[name] = Path(directory)
    numbers = _numbers("--steps", "N", r"[1-9]\d*", steps, directories)
    shares = _numbers("--fidelity", "0..1", r"\d*\.?\d+", fidelities, directories)
    return [
        Entry(name, directory, int(numbers.get(name, 1)), shares.get(name)) for name, directory in directories.items()
    ]


def _numbers(flag: str, what: str, pattern: str, texts: Sequence[str], names: Collection[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition(":")
        if name not in names or not re.fullmatch(pattern, number):
            raise UsageError(f"{flag} {text}: write NAME:{what}, NAME one of {', '.join(names)}")
        found[name] = float(number)
    return found


def check(entries: Sequence[Entry]) -> None:
    """Raise UsageError or CheckpointError unless every checkpoint is a whole model that can take its steps."""
    for entry in entries:
        kind, config, _ = checkpoint.read_config(entry.directory)
        if kind != "vdiffsr":
            raise UsageError(f"{entry.directory} holds a {kind} network, not a whole model (kind vdiffsr)")
        choices = step_choices(config)
        if entry.steps not in choices:
            raise UsageError(f"--steps {entry.name}:{entry.steps}: this model takes {', '.join(map(str, choices))}")
        try:
            fidelity.check(config, entry.fidelity)
        except ValueError as error:
            raise UsageError(f"--fidelity {entry.name}: {error}") from None


def opened(
    entry: Entry, cases: Cases, *, seed: int, sampler: str, dtype: str, progress: Progress
) -> Callable[[Case], np.ndarray]:
    """The model, read, as a function of the cases in their order: a case's LR picture -> (4h, 4w, 3) uint8 on the host.

    Raises: SamplingError, CheckpointError, DeviceMemoryError; so does the function.
    """
    upscaler = Upscaler.load(entry.directory, dtype=dtype)
    settings = Settings(steps=entry.steps, seed=seed, sampler=sampler, fidelity=entry.fidelity)
    for case in cases:
        height, width = case.given.shape[:2]
        progress.expect(upscaler.grid(height, width, settings).count, height * width / 1e6)

    # The control prior.mode=shuffled needs the next picture too; all others are timed one by one.
    shuffled = checkpoint.read_config(entry.directory)[1].is_shuffled
    in_order = upscaler.outcomes((case.given for case in cases), settings, progress.computed) if shuffled else None

    def upscale(case: Case) -> np.ndarray:
        outcome = next(in_order or upscaler.outcomes([case.given], settings, progress.computed))
        progress.finished()
        if isinstance(outcome, Failure):
            raise outcome.error
        return outcome

    return upscale
