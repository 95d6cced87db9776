"""From the data pipeline to the loop: this process's part of every batch."""

from __future__ import annotations

import jax
import numpy as np

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.data import pipeline
from vdiffsr_jax.training.config import TrainConfig


def open_batches(cfg: TrainConfig, split: str) -> pipeline.Batches:
    """An endless iterator of this process's parts; its state is the step alone, whatever hosts and workers there are.

    Raises: ConfigError, DataError.
    """
    return pipeline.Batches(
        cfg.data,
        batch_size=cfg.batch_size,
        seed=cfg.seed,
        split=split,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def held_out(cfg: TrainConfig) -> list[dict[str, np.ndarray]]:
    """The batches that every evaluation uses, without their indices.

    Raises: ConfigError if there are no held-out images.
    """
    if not cfg.data.has_valid:
        raise ConfigError("eval.every is set but data.valid_sources is empty: name held-out photos or set eval.every=0")
    iterator = open_batches(cfg, "valid")
    batches = [next(iterator) for _ in range(cfg.eval.batches)]
    iterator.close()
    return [{name: part for name, part in batch.items() if name != "index"} for batch in batches]
