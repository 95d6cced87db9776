"""Numbers of a run: read one step late, checked, averaged between lines, written as JSON lines and event files."""

from __future__ import annotations

import contextlib
import errno
import json
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.training.events import EventFile
from vdiffsr_jax.training.log_folder import LogFolder, parts
from vdiffsr_jax.training.speed import Speed

# Metrics that have a place of their own on the progress line.
ELSEWHERE = ("loss", "learning_rate", "images_per_second", "data_wait", "step_ms", "tflops_per_device", "hfu", "mfu")

NAME = "log.jsonl"


class NonFiniteError(ExpectedError, RuntimeError):
    """Loss or gradient became infinite or not a number; the message names step and samples."""

    exit_code = 1


class Window:
    """Means since the last line; the newest step's numbers are read only when the next step already runs.

    `speed`: what one step costs, known once it is compiled.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.speed: Speed | None = None
        self.pending: tuple[int, Mapping[str, jax.Array], np.ndarray] | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self.sums: dict[str, float] = {}
        self.count = 0
        self.waited = 0.0
        self.started = time.monotonic()

    def add(self, step: int, metrics: Mapping[str, jax.Array], indices: np.ndarray) -> None:
        """Remember the metrics of a step just started, read those of the step before.

        Raises: NonFiniteError about the step before.
        """
        self.flush()
        self.pending = (step, metrics, indices)

    def flush(self) -> None:
        """Read what is pending. Raises: NonFiniteError."""
        if self.pending is None:
            return
        step, metrics, indices = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        if not values["finite"]:
            parts = ", ".join(f"{name} {value:.4g}" for name, value in values.items() if not np.isfinite(value))
            raise NonFiniteError(
                f"step {step}: {parts or 'a gradient'} is not finite; this process's samples were "
                f"{', '.join(map(str, indices.tolist()))}"
            )
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Of every metric, and `images_per_second`, `data_wait` (share of the time), `step_ms`, TFLOP/s, HFU, MFU."""
        self.flush()
        spent = time.monotonic() - self.started
        means = {name: total / max(self.count, 1) for name, total in self.sums.items() if name != "finite"}
        means["images_per_second"] = self.count * self.batch_size / spent
        means["data_wait"] = self.waited / spent
        means["step_ms"] = 1000 * spent / max(self.count, 1)
        if self.speed is not None:
            means |= self.speed.at(spent / max(self.count, 1))
        return means


def progress_line(step: int, steps: int, batch_size: int, means: Mapping[str, float]) -> str:
    """step, loss and its parts, images/s, milliseconds a step, MFU and HFU where known, data wait, time left."""
    left = (steps - step) * batch_size / max(means["images_per_second"], 1e-9)
    used = "".join(f"  {name.upper()} {means[name]:.0%}" for name in ("mfu", "hfu") if name in means)
    parts = " ".join(f"{name} {value:.4g}" for name, value in means.items() if name not in ELSEWHERE)
    return (
        f"step {step}/{steps}  loss {means['loss']:.4g}  {parts}  lr {means['learning_rate']:.2g}  "
        f"{means['images_per_second']:.1f} images/s  {means['step_ms']:.0f} ms/step{used}  "
        f"data wait {means['data_wait']:.0%}  left {duration(left)}"
    )


def duration(seconds: float) -> str:
    """3725 -> 1h02m."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"


class Log:
    """WORKDIR/log.jsonl, one object per line, and a TensorBoard event file, in a LogFolder; process 0 only."""

    def __init__(self, workdir: epath.Path):
        self.active = jax.process_index() == 0
        if self.active:
            self.place = LogFolder(workdir)
            self.file = open(self.place.folder / NAME, "ab", buffering=0)  # noqa: SIM115  (it lives as long as the run)
            self.events = EventFile(self.place.folder)

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """`kind` is train or eval. Raises: OSError that names the folder."""
        if self.active:
            rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
            line = {"step": step, "kind": kind, "time": round(time.time(), 1)} | rounded
            with self._named():
                self.file.write(f"{json.dumps(line)}\n".encode())
                self.events.scalars(step, {f"{kind}/{name}": value for name, value in values.items()})

    def image(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        """A PNG of (height, width). Raises: OSError that names the folder."""
        if self.active:
            with self._named():
                self.events.image(step, name, png, size)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """A write that fails does not know of which file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.place.folder)) from error

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        if self.active:
            print(text, flush=True)

    @contextlib.contextmanager
    def keeping_traces(self) -> Iterator[None]:
        """What ends the run stands in log.jsonl too, as {"kind": "error", "trace": ...}."""
        try:
            yield
        except Exception:
            if self.active:
                with contextlib.suppress(OSError):  # a full disk may be what it is about
                    line = {"step": -1, "kind": "error", "time": round(time.time(), 1), "trace": traceback.format_exc()}
                    self.file.write(f"{json.dumps(line)}\n".encode())
            raise

    def close(self) -> None:
        """Close both files and ship them. Raises: OSError if a bucket does not take them."""
        if self.active:
            self.file.close()
            self.events.close()
            self.place.close()


def read_log(workdir: epath.Path) -> list[dict[str, Any]]:
    """The lines of WORKDIR/log.jsonl; of steps that were run twice (killed, resumed), the last.

    Raises: FileNotFoundError if there is none.
    """
    files = parts(workdir, NAME)
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no log of a run", str(workdir / NAME))
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for text in (line for file in files for line in file.read_text().splitlines()):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # the line that a kill cut off
            continue
        lines[line["kind"], line["step"]] = line
    return sorted(lines.values(), key=lambda line: line["step"])
