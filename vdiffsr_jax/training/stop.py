"""When a run stops before its last step: told by a signal, by the clock, or by the job's other processes."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from typing import Any

import jax

from vdiffsr_jax.weights.train_state import TrainCheckpoints


class Stop:
    """Turns the first SIGTERM or Ctrl-C, or the `deadline` (time.monotonic()), into a flag; a second Ctrl-C interrupts.

    In a job of several processes JAX's own handler keeps SIGTERM, so that all processes stop at one step, and Ctrl-C
    is passed on to it.
    """

    def __init__(self, deadline: float | None = None):
        self.deadline = math.inf if deadline is None else deadline

    def __enter__(self) -> Stop:
        self.asked = False
        self.previous = {}
        self.alone = jax.process_count() == 1
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT) if self.alone else (signal.SIGINT,):
                self.previous[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        if not self.alone:
            os.kill(os.getpid(), signal.SIGTERM)

    def now(self, step: int, checkpoints: TrainCheckpoints) -> bool:
        """Whether to stop after this step; every process of a job gets the same answer."""
        if time.monotonic() > self.deadline and not self.asked:
            self._ask(signal.SIGTERM, None)
        return self.asked if self.alone else bool(checkpoints.manager.reached_preemption(step))

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
