"""Metrics by name for held-out pictures: the same numbers as evaluate.py's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.catalog import METRICS, Measure, MetricError
from vdiffsr_jax.metrics.niqe import NiqeError
from vdiffsr_jax.metrics.report import Report
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.weights import storage

PAIRS = "pairs_"  # before the names of metrics of eval.pairs


def rising(name: str) -> bool:
    """Whether more of a metric is better, by its name in the log."""
    metric = METRICS.get(name.removeprefix(PAIRS))
    return metric is not None and metric.rising


def check(cfg: TrainConfig) -> dict[str, Path]:
    """The weights of the metrics that need any.

    Raises: ConfigError if some are missing, CheckpointError if they cannot be read, or if eval.best would be the very
    distance that the loss trains on.
    """
    if not cfg.eval.metrics:
        return {}
    try:
        found = catalog.find(storage.location(cfg.eval.weights))
    except MetricError as error:
        raise ConfigError(f"eval.weights: {error}") from None
    for key in cfg.eval.metrics:
        if METRICS[key].weights and key not in found:
            raise ConfigError(f"eval.metrics: {key} has no weights in {cfg.eval.weights}; get them: {METRICS[key].get}")
    trained = getattr(cfg.loss, "perceptual", 0) > 0 and not cfg.eval.allow_trained_metric
    best, source = cfg.eval.best.removeprefix(PAIRS), cfg.init_from.perceptual
    if trained and best in METRICS and source and best == catalog.network_key(storage.place(source)):
        raise ConfigError(
            f"eval.best={cfg.eval.best!r} is the distance that the loss trains on (init_from.perceptual={source}): "
            "choose another metric, or set eval.allow_trained_metric=true"
        )
    return found


def load(cfg: TrainConfig) -> list[Measure]:
    """eval.metrics, ready to use. Raises: as `check`."""
    found, rules = check(cfg), RULES[cfg.eval.scores]
    try:
        return [catalog.load(key, rules, found.get(key)) for key in dict.fromkeys(cfg.eval.metrics)]
    except NiqeError as error:
        raise ConfigError(f"eval.metrics: {error}") from None


def means(measures: Sequence[Measure], pictures: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """{metric: mean} of (picture, HR), each (h, w, 3) uint8, over the pictures that have a value.

    NaN where none has: NIQE of flat or small pictures.
    """
    report = Report([measure.metric.key for measure in measures], "")
    for i, (image, hr) in enumerate(pictures):
        report.add(str(i), {measure.metric.key: measure.score(image, hr) for measure in measures})
    return report.mean()
