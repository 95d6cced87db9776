"""One line on a terminal: photos, tiles per second, time left. Silent elsewhere, except for messages."""

from __future__ import annotations

import logging
import threading
import time
from typing import TextIO

_REDRAW_SECONDS = 0.1


class Progress:
    """Counts photos and tiles; the time left assumes that photos not yet opened have as many tiles as the others."""

    def __init__(self, photos: int, stream: TextIO) -> None:
        self._photos, self._stream = photos, stream
        self._shown = stream.isatty()
        self._lock = threading.Lock()
        self._finished = self._opened = self._tiles = self._known_tiles = 0
        self._start = self._drawn = time.monotonic()

    def opened(self, tiles: int) -> None:
        """A photo of so many tiles entered."""
        with self._lock:
            if self._tiles == 0:
                self._start = time.monotonic()
            self._opened += 1
            self._known_tiles += tiles

    def computed(self, tiles: int) -> None:
        """So many tiles came back."""
        with self._lock:
            self._tiles = min(self._tiles + tiles, self._known_tiles)
            self._draw()

    def finished(self) -> None:
        """A photo is done, skipped or failed."""
        with self._lock:
            self._finished += 1
            self._draw(force=True)

    def message(self, text: str) -> None:
        """A line that stays, above the bar."""
        with self._lock:
            self._clear()
            self._stream.write(text + "\n")
            self._stream.flush()
            self._draw(force=True)

    def close(self) -> None:
        """Take the bar away."""
        with self._lock:
            self._clear()
            self._shown = False

    def line(self) -> str:
        """What the bar says now."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        text = f"{self._finished}/{self._photos} photos, {self._tiles}/{self._known_tiles} tiles"
        if not self._tiles:
            return text
        waiting = max(self._photos - max(self._opened, self._finished), 0)
        expected = self._known_tiles * (1 + waiting / max(self._opened, 1))
        rate = self._tiles / elapsed
        left = round((expected - self._tiles) / rate)
        return f"{text}, {rate:.2f} tiles/s, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._shown and (force or now - self._drawn >= _REDRAW_SECONDS):
            self._drawn = now
            self._stream.write(f"\r\x1b[2K{self.line()}")
            self._stream.flush()

    def _clear(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


class MessageHandler(logging.Handler):
    """Log records as messages above the bar."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """One line per record."""
        self._progress.message(self.format(record))
