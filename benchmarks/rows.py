"""Rows of measurements, one after the other, in a file that is always up to date."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vdiffsr_jax.photos.write import write_whole

Values = dict[str, Any]


class Row(NamedTuple):
    """What it is called, and the function that finds it out."""

    name: str
    measure: Callable[[], Values]


def measure(rows: Sequence[Row], seconds: float, output: Path) -> list[Values]:
    """All rows that the time is enough for; one that fails says why.

    OUTPUT.json and OUTPUT.md have every row from the start. When the time is over the process ends, successfully, in
    the middle of whatever it does: a compiler cannot be broken off.
    """
    began, writing = time.monotonic(), threading.Lock()
    done = [{"row": row.name, "not run": f"not finished within {seconds:.0f} s"} for row in rows]

    def over() -> None:
        with writing:
            print(table(done), flush=True)
            sys.stderr.flush()
            os._exit(0)

    timer = threading.Timer(seconds, over)
    timer.daemon = True
    timer.start()
    try:
        _write(output, done)
        for i, row in enumerate(rows):
            try:
                values = row.measure()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next row may do better
                traceback.print_exc()
                values = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
            with writing:
                done[i] = {"row": row.name} | values
                _write(output, done)
            print(f"{time.monotonic() - began:.0f} s, {row.name}: {_line(values)}", flush=True)
    finally:
        timer.cancel()  # else it ends, later and without a word, whatever its process does then
    return done


def table(done: Iterable[Values]) -> str:
    """The rows as Markdown."""
    return "\n".join(["| | |", "| --- | --- |", *(f"| {row['row']} | {_line(row)} |" for row in done)]) + "\n"


def _write(output: Path, done: Sequence[Values]) -> None:
    for suffix, text in ((".json", json.dumps(done, indent=1) + "\n"), (".md", table(done))):
        write_whole(output.with_suffix(suffix), [text.encode()])


def _line(values: Values) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items() if k != "row")
