"""Scores of all methods: one Markdown table of means, one CSV of every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vdiffsr_jax.evaluation.models import BICUBIC
from vdiffsr_jax.metrics.catalog import METRICS
from vdiffsr_jax.metrics.report import Report, csv_text, table

_DIGITS = {metric.column: metric.digits for metric in METRICS.values()}


def markdown(
    reports: Mapping[str, Report], steps: Mapping[str, int], seconds: Mapping[str, float], distances: Sequence[str]
) -> str:
    """Means, a row a method; in brackets after a distance: its ratio to bicubic's. Where some pictures have no
    value, the mean is followed by how many have. The protocol stands above.

    Args: reports: {method: scores}. steps, seconds: of each method that has any. distances: columns with a ratio.
    """
    first = next(iter(reports.values()))
    columns = first.columns
    rows = []
    for method, report in reports.items():
        mean = report.mean()
        cells = [
            _cell(column, mean[column], reports[BICUBIC].mean()[column] if column in distances else None)
            for column in columns
        ]
        for i, column in enumerate(columns):
            if 0 < (count := len(report.values(column))) < len(report.rows):
                cells[i] += f" of {count}"
        if steps:
            took = f"{seconds[method]:.2f}" if method in seconds else ""
            cells = [str(steps.get(method, "")), took, *cells]
        rows.append([method, *cells])
    return table(first.protocol, ["method", *(["steps", "s/picture"] if steps else []), *columns], rows)


def _cell(column: str, value: float, base: float | None) -> str:
    text = f"{value:.{_DIGITS[column]}f}"
    return f"{text} ({value / base:.3f})" if base else text


def per_image(reports: Mapping[str, Report], weights: Mapping[str, str]) -> str:
    """CSV: method, image, its scores, which weights each column of `weights` has; a method's mean is its last line."""
    columns = next(iter(reports.values())).columns
    rows = [["method", "image", *columns, *(f"{c} weights" for c in weights)]]
    for method, report in reports.items():
        rows += [[method, *line, *weights.values()] for line in report.lines()]
    return csv_text(rows)
