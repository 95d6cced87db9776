"""Rows of measurements, prepared beside each other and measured one by one, in a file that is always up to date."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

SPEED = "TFLOP/s"  # of every timed row
_TOGETHER = 12  # rows; most of them wait for a compiler
_LAST = 0.15  # of the time: from here on what was timed is timed again
Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """`measure(prepare())`: `prepare` in a thread beside those of other rows, `measure` never beside another.

    `timed`: what else runs is in its way.
    """

    name: str
    prepare: Callable[[], Any]
    measure: Callable[[Any], Values] = dict
    timed: bool = True


class OutOfTimeError(Exception):
    """A row was still running when the time was over."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises: OutOfTimeError inside the block after so long, as soon as Python runs again: XLA is not broken off."""

    def over(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(rows: Iterable[Row], seconds: float, output: Path) -> list[Values]:
    """All rows that the time is enough for, each as soon as it is prepared; one that fails says why.

    What is timed is measured again when nothing is prepared any more, or towards the end, and the faster time counts.
    OUTPUT.json and OUTPUT.md have every row from the start. Who still prepares at the end is left alone.
    """
    end = time.monotonic() + seconds
    late = end - _LAST * seconds
    pool = ThreadPoolExecutor(_TOGETHER, "prepare")
    begun = {row: pool.submit(row.prepare) for row in rows}
    found: dict[Row, Values] = {}
    left, again = dict(begun), list[Row]()
    done = _written(output, begun, found, seconds)
    while (left or again) and (now := time.monotonic()) < end:
        idle = 0 if again and (now > late or not left) else (end if now > late else late) - now
        concurrent.futures.wait(left.values(), idle, concurrent.futures.FIRST_COMPLETED)
        row = next((row for row, prepared in left.items() if prepared.done()), None)
        if row is not None:
            left.pop(row)
            if _take(row, begun[row], end, found) and row.timed:
                again.append(row)
        elif again and (now > late or not left):
            row = again.pop(0)
            _take(row, begun[row], end, found)
        else:
            continue
        done = _written(output, begun, found, seconds)
        print(f"{seconds - end + time.monotonic():.0f} s, {row.name}: {_line(found.get(row, {}))}", flush=True)
    pool.shutdown(wait=False, cancel_futures=True)
    return done


def table(done: Iterable[Values]) -> str:
    """The rows as Markdown."""
    return "\n".join(["| | |", "| --- | --- |", *(f"| {row['row']} | {_line(row)} |" for row in done)]) + "\n"


def _take(row: Row, prepared: Future[Any], end: float, found: dict[Row, Values]) -> bool:
    """Measure; whether that was right. What was found before stays unless this is faster."""
    try:
        with limited(end - time.monotonic()):
            values = row.measure(prepared.result())
    except OutOfTimeError:
        return False
    except Exception as error:  # noqa: BLE001 - whatever it is, the next row may do better
        traceback.print_exc()
        first, _, _ = str(error).partition("\n")
        found.setdefault(row, {"failed": f"{type(error).__name__}: {first}"})
        return False
    if values.get(SPEED, 0) >= found.get(row, {}).get(SPEED, 0):
        found[row] = values
    return True


def _written(output: Path, rows: Iterable[Row], found: dict[Row, Values], seconds: float) -> list[Values]:
    unfinished = {"not run": f"not finished within {seconds:.0f} s"}
    done = [{"row": row.name} | found.get(row, unfinished) for row in rows]
    for suffix, text in ((".json", json.dumps(done, indent=1) + "\n"), (".md", table(done))):
        output.with_suffix(suffix).write_text(text)
    return done


def _line(values: Values) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items() if k != "row")
