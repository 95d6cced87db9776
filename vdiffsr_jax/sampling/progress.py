"""Photos, tiles and the time left: one line on a terminal, a line a minute in a log."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_REDRAW_SECONDS = 0.1
_LOG_SECONDS = 60.0
# Below this much, nobody needs to be told how long it takes.
_WORTH_TELLING_SECONDS = 60.0


class Progress:
    """Counts photos and tiles. The clock starts with the first batch that came back: the one that compiled."""

    def __init__(self, photos: int, stream: TextIO) -> None:
        self._photos, self._stream = photos, stream
        self._is_terminal = self._shown = stream.isatty()
        self._lock = threading.Lock()
        self._finished = self._tiles = self._expected = self._first = 0
        self._megapixels = 0.0
        self._told = False
        self._start: float | None = None
        self._drawn = time.monotonic()

    def expect(self, tiles: int, megapixels: float) -> None:
        """So much is to come, of all photos together."""
        with self._lock:
            self._expected += tiles
            self._megapixels += megapixels

    def computed(self, tiles: int) -> None:
        """So many tiles came back."""
        with self._lock:
            self._tiles += tiles
            if self._start is None:
                self._start, self._first = time.monotonic(), self._tiles
                self._drawn = self._start
            elif not self._told:
                self._told = True
                left = self.seconds_left()
                if left is not None and left >= _WORTH_TELLING_SECONDS:
                    self._line(f"about {_rounded(left)} for {self._megapixels:.1f} Mpx")
            self._draw()

    def finished(self, unused: int = 0) -> None:
        """A photo is done, skipped or failed; `unused`: its tiles that will not come."""
        with self._lock:
            self._finished += 1
            self._expected -= unused
            self._draw(force=True)

    def message(self, text: str) -> None:
        """A line that stays, above the bar."""
        with self._lock:
            self._line(text)

    trace = message  # of what nobody expected: for who mends the program

    def close(self) -> None:
        """Take the bar away."""
        with self._lock:
            self._clear()
            self._shown = False

    def seconds_left(self) -> float | None:
        """Until the last tile; None before two batches came back."""
        done = self._tiles - self._first
        if self._start is None or done <= 0:
            return None
        return max(self._expected - self._tiles, 0) * (time.monotonic() - self._start) / done

    def line(self) -> str:
        """What the bar says now."""
        text = f"{self._finished}/{self._photos} photos, {self._tiles}/{max(self._expected, self._tiles)} tiles"
        left = self.seconds_left()
        if left is None or self._start is None:
            return text
        rate = (self._tiles - self._first) / max(time.monotonic() - self._start, 1e-9)
        seconds = round(left)
        return f"{text}, {rate:.2f} tiles/s, {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} left"

    def _line(self, text: str) -> None:
        self._clear()
        self._stream.write(text + "\n")
        self._stream.flush()
        if self._is_terminal:
            self._draw(force=True)

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._shown and (force or now - self._drawn >= _REDRAW_SECONDS):
            self._drawn = now
            self._stream.write(f"\r\x1b[2K{self.line()}")
            self._stream.flush()
        elif not self._is_terminal and now - self._drawn >= _LOG_SECONDS:
            self._drawn = now
            self._line(self.line())

    def _clear(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


def _rounded(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{round(seconds / 3600)} h"


class _Messages(logging.Handler):
    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.message(self.format(record))


@contextlib.contextmanager
def showing(progress: Progress) -> Iterator[None]:
    """Inside, what the package logs stands above the bar; at the end the bar is taken away."""
    handler, logger = _Messages(progress), logging.getLogger("vdiffsr_jax")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        progress.close()
        logger.removeHandler(handler)
        logger.propagate = True
