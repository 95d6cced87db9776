"""Every number of one picture: the metrics that were chosen, under one set of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.catalog import METRICS, Measure, MetricError
from vdiffsr_jax.metrics.rules import Rules

PSNR = METRICS["psnr"].column


class Scorer:
    """Scores a picture against its HR; `columns` in the order of the table, `distances` those with a ratio.

    `weights`: of each column that has any, which files and their SHA-256.
    """

    def __init__(self, measures: Sequence[Measure]) -> None:
        self.measures = measures
        self.columns = tuple(measure.metric.column for measure in measures)
        self.weights = {measure.metric.column: measure.weights for measure in measures if measure.weights}
        self.distances = tuple(measure.metric.column for measure in measures if measure.metric.distance)

    @classmethod
    def load(cls, keys: Sequence[str], rules: Rules, weights: Mapping[str, Path]) -> Scorer:
        """The metrics of these names. Raises: MetricError, CheckpointError, NiqeError."""
        return cls([catalog.load(key, rules, weights.get(key)) for key in keys])

    def __call__(self, image: np.ndarray, hr: np.ndarray) -> dict[str, float]:
        """{column: score} of two pictures (h, w, 3) uint8; NaN where a metric has no value (NIQE of a flat one)."""
        return {measure.metric.column: measure.score(image, hr) for measure in self.measures}

    def describe(self) -> str:
        """A sentence for each metric that has weights: which file they are."""
        return " ".join(f"{column}: weights of {files}." for column, files in self.weights.items())


def choose(asked: Sequence[str] | None, weights: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    """(metrics to compute, metrics left out for want of weights): those asked for, or all that can be computed.

    Raises: MetricError if one that was asked for is unknown or has no weights.
    """
    if asked is not None:
        for key in asked:
            if catalog.known(key).weights and key not in weights:
                raise MetricError(f"{key} has no weights here; get them: {METRICS[key].get}")
        return list(dict.fromkeys(asked)), []
    missing = [key for key, metric in METRICS.items() if metric.weights and key not in weights]
    return [key for key in METRICS if key not in missing], missing
