"""From the data pipeline to the loop: this process's part of every batch."""

from __future__ import annotations

import dataclasses

import jax

from vdiffsr_jax.data import pipeline
from vdiffsr_jax.training.config import TrainConfig


def open_batches(cfg: TrainConfig, split: str) -> pipeline.Batches:
    """An endless iterator of this process's parts; its state is the step alone, whatever hosts and workers there are.

    Held-out batches are few and read once: worker processes for them would take longer to start and to end. They do not
    follow the run's seed, so that the curves of two runs compare.
    Raises: ConfigError, DataError.
    """
    return pipeline.Batches(
        cfg.data if split == "train" else dataclasses.replace(cfg.data, num_workers=0),
        batch_size=cfg.batch_size,
        seed=cfg.seed if split == "train" else 0,
        split=split,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
