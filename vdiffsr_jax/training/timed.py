"""A run that is given time instead of steps: its first steps are timed, then their number is fixed and written down."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax

from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat

# Steps to time, and the part of the time left that steps may fill: the rest is for evaluations and saving.
PROBE, SHARE = 20, 0.85


def with_steps(cfg: TrainConfig, steps: int) -> TrainConfig:
    """`cfg` with another number of steps, evaluated as often along the way."""
    every = cfg.eval.every and max(1, round(cfg.eval.every * steps / cfg.steps))
    return dataclasses.replace(cfg, steps=steps, eval=dataclasses.replace(cfg.eval, every=every))


class Timer:
    """Fixes how many steps fit into `seconds` from now; `decided(steps)` is told, once.

    The timed steps lie in the warm-up, whose rates do not depend on the number of all steps: so the run repeats exactly
    with the number alone.
    """

    def __init__(self, seconds: float, cfg: TrainConfig, decided: Callable[[int], None]):
        self.end = time.monotonic() + seconds
        self.probe = max(2, min(PROBE, cfg.optimizer.warmup + 1))
        self.decided = decided
        self.count = 0
        self.first = 0.0

    def after(self, step: int, metrics: Flat) -> int | None:
        """To be called after every step; the number of all steps, the one time that it is known."""
        self.count += 1
        if self.count not in (1, self.probe):
            return None
        jax.block_until_ready(metrics)
        now = time.monotonic()
        if self.count == 1:  # it may have compiled
            self.first = now
            return None
        pace = (now - self.first) / (self.probe - 1)
        steps = step + max(1, int(SHARE * (self.end - now) / pace))
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            steps = int(multihost_utils.broadcast_one_to_all(steps))
        self.decided(steps)
        return steps
