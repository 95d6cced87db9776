"""Ctrl-C and SIGTERM end a command once, in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Inside, the first Ctrl-C raises KeyboardInterrupt and the first SIGTERM Terminated, in the main thread.

    Later ones do nothing, up to the end of the process: what is half done is being finished or cleared away.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, signal.SIG_IGN if came else handler)
