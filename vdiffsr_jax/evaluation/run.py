"""One evaluation: every method on every picture, scored; the table, the scores and the sheet written."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.evaluation import table
from vdiffsr_jax.evaluation.cases import Case, Cases
from vdiffsr_jax.evaluation.models import BICUBIC
from vdiffsr_jax.evaluation.pairs import Failed
from vdiffsr_jax.evaluation.scores import PSNR, Scorer
from vdiffsr_jax.metrics.report import Report
from vdiffsr_jax.photos import sheet
from vdiffsr_jax.photos.write import write_whole

TABLE, SCORES, SHEET = "table.md", "scores.csv", "sheet.png"
SHEET_PHOTOS = 8  # on the sheet if none are named: it lies in memory


@dataclasses.dataclass(frozen=True)
class Method:
    """A row: `open(cases)` reads what it needs and returns what makes its result of a case, finished when it returns.

    `steps`: None where nothing is sampled.
    """

    name: str
    open: Callable[[Cases], Callable[[Case], np.ndarray]]
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`reports` by method; `sheet_rows`: what the sheet shows; `seconds`: each model's of a picture, the median.

    `weights`: of each column that has any, which files they are.
    """

    reports: Mapping[str, Report]
    sheet_rows: Sequence[Mapping[str, np.ndarray]]
    steps: Mapping[str, int]
    seconds: Mapping[str, float]
    distances: Sequence[str]
    weights: Mapping[str, str]

    def markdown(self) -> str:
        """The table with its protocol."""
        return table.markdown(self.reports, self.steps, self.seconds, self.distances)

    def write(self, folder: Path) -> None:
        """table.md, scores.csv and, unless no picture is on it, sheet.png.

        Raises: ImageError if a file cannot be written.
        """
        write_whole(folder / TABLE, [self.markdown().encode()])
        write_whole(folder / SCORES, [table.per_image(self.reports, self.weights).encode()])
        if self.sheet_rows:
            write_whole(folder / SHEET, [sheet.png(sheet.draw([row.items() for row in self.sheet_rows]))])


def evaluate(
    cases: Cases,
    methods: Sequence[Method],
    scorer: Scorer,
    text: str,
    *,
    failed: Failed,
    keep: Callable[[Evaluation], None] = lambda done: None,
    on_sheet: Sequence[str] | None = None,
    size: int = 256,
) -> Evaluation:
    """Each method on all cases, after bicubic where there is LR; only the sheet's pictures stay in memory.

    A method that cannot be opened has no row, one that has no result of a case no scores there; `failed` is told.

    Args: text: how it was scored. keep: told after every method what there is so far, without the sheet. on_sheet:
        names of the pictures on the sheet, the first eight by default; `size`: pixels a side of its cells.
    """
    if cases.has_lr:
        methods = [Method(BICUBIC, lambda cases: lambda case: case.bicubic), *methods]
    shown = set(cases.names[:SHEET_PHOTOS] if on_sheet is None else on_sheet)
    reports: dict[str, Report] = {}
    seconds: dict[str, float] = {}
    middles: dict[str, dict[str, np.ndarray]] = {name: {} for name in cases.names if name in shown}
    steps = {method.name: method.steps for method in methods if method.steps is not None}

    def so_far(rows: Sequence[Mapping[str, np.ndarray]]) -> Evaluation:
        return Evaluation(reports, rows, steps, seconds, scorer.distances if cases.has_lr else (), scorer.weights)

    for method in methods:
        report, times = Report(scorer.columns, text), []
        try:
            make = method.open(cases)
        except ExpectedError as error:
            failed(method.name, "no model", str(error))
            continue
        for case in cases:
            started = time.monotonic()
            try:
                image = make(case)
            except ExpectedError as error:
                failed(f"{case.name} by {method.name}", "no result", str(error))
                report.add(case.name, dict.fromkeys(scorer.columns, math.nan))
                continue
            times.append(time.monotonic() - started)
            report.add(case.name, scorer(image, case.hr))
            if case.name in shown:
                label = _label(method.name, report.rows[case.name], scorer)
                middles[case.name][label] = sheet.middle(image, size)
        del make  # a model is gone from memory before the next one is read
        reports[method.name] = report
        if method.steps is not None and times[1:]:
            seconds[method.name] = statistics.median(times[1:])  # the first one compiles
        keep(so_far(()))
    return so_far([_sheet_row(case, middles[case.name], size) for case in cases if case.name in shown])


def _label(method: str, scores: Mapping[str, float], scorer: Scorer) -> str:
    """The method with what judges best of what is there: a distance before PSNR."""
    judged = next(iter([*scorer.distances, *(c for c in scorer.columns if c == PSNR)]), None)
    if judged is None:
        return method
    return f"{method} {scores[judged]:.{2 if judged == PSNR else 4}f}{' dB' if judged == PSNR else ''}"


def _sheet_row(case: Case, results: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    row = {}
    if case.lr is not None:
        scale = case.hr.shape[0] // case.lr.shape[0]
        row[f"LR {case.name}"] = sheet.middle(sheet.repeat(case.lr, scale), size)
    truth = "HR" if row else f"HR {case.name}"
    return row | dict(results) | {truth: sheet.middle(case.hr, size)}
