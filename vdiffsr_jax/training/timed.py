"""A run that is given time instead of steps: its first steps are timed, then their number is fixed and written down."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax

from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Metrics

# Steps to time, and the part of the time left that steps may fill: the rest is for evaluations and saving.
PROBE, SHARE = 20, 0.85


def with_steps(cfg: TrainConfig, steps: int) -> TrainConfig:
    """`cfg` with another number of steps, evaluated as often along the way."""
    every = cfg.eval.every and max(1, round(cfg.eval.every * steps / cfg.steps))
    return dataclasses.replace(cfg, steps=steps, eval=dataclasses.replace(cfg.eval, every=every))


class Timer:
    """Fixes how many steps fit into `seconds` from now; `decided(steps)` is told, once.

    What is timed is the second half of the first steps: the program is compiled in the first, and a GPU's next ones are
    several times slower than those after (libraries are loaded, graphs recorded). All lie in the warm-up, whose rates
    do not depend on the number of all steps: so the run repeats exactly with the number alone, if it has a warm-up.
    They are counted from the run's own first step, however often it is broken off among them. `cfg`: as it was given,
    before any number of steps.
    """

    def __init__(self, seconds: float, cfg: TrainConfig, decided: Callable[[int], None]):
        self.cfg, self.end = cfg, time.monotonic() + seconds
        self.probe = max(2, min(PROBE, cfg.optimizer.warmup + 1))
        self.decided = decided
        self.began: int | None = None
        self.half: tuple[int, float] | None = None
        self.done = False

    def after(self, step: int, metrics: Metrics) -> int | None:
        """To be called after every step; the number of all steps, the one time that it is known."""
        if self.done:
            return None
        if self.began is None:
            self.began = step
        if self.half is None:
            if step >= (self.began + self.probe) // 2:
                jax.block_until_ready(metrics)
                self.half = step, time.monotonic()
            return None
        if step < self.probe:
            return None
        self.done = True
        jax.block_until_ready(metrics)
        now, (half, at) = time.monotonic(), self.half
        pace = (now - at) / (step - half)
        steps = step + max(1, int(SHARE * (self.end - now) / pace))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            steps = int(multihost_utils.broadcast_one_to_all(steps))
        self.decided(steps)
        return steps
