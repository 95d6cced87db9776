"""Scores of all methods: one Markdown table of means, one CSV of every image."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from vdiffsr_jax.evaluation.models import BICUBIC
from vdiffsr_jax.evaluation.scores import NIQE, PSNR
from vdiffsr_jax.metrics.report import Report

_DIGITS = {PSNR: 2, NIQE: 2}


def markdown(reports: Mapping[str, Report], steps: Mapping[str, int], distances: Sequence[str]) -> str:
    """Means, a row a method; in brackets after a distance: its ratio to bicubic's. The protocol stands above.

    Args: reports: {method: scores}, bicubic among them. steps: of each method that has any. distances: columns.
    """
    base = reports[BICUBIC]
    columns = base.columns
    lines = [
        base.protocol,
        "",
        f"| method | steps | {' | '.join(columns)} |",
        f"| --- | ---: |{' ---: |' * len(columns)}",
    ]
    for method, report in reports.items():
        mean = report.mean()
        cells = [
            _cell(column, mean[column], base.mean()[column] if column in distances else None) for column in columns
        ]
        name = method.replace("|", "\\|")
        lines.append(f"| {name} | {steps.get(method, '')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(column: str, value: float, base: float | None) -> str:
    text = f"{value:.{_DIGITS.get(column, 4)}f}"
    return f"{text} ({value / base:.3f})" if base else text


def per_image(reports: Mapping[str, Report]) -> str:
    """CSV: method, image and its scores; a method's mean is its last line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = next(iter(reports.values())).columns
    writer.writerow(["method", "image", *columns])
    for method, report in reports.items():
        for image, scores in [*report.rows.items(), ("mean", report.mean())]:
            writer.writerow([method, image, *(f"{scores[c]:.6g}" for c in columns)])
    return text.getvalue()
