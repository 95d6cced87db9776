"""One evaluation: every method on every case, scored; the table, the scores and the sheet written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vdiffsr_jax.evaluation import table
from vdiffsr_jax.evaluation.models import BICUBIC
from vdiffsr_jax.evaluation.protocol import Case, Protocol
from vdiffsr_jax.evaluation.scores import PSNR, Scorer
from vdiffsr_jax.metrics.niqe import NiqeError
from vdiffsr_jax.metrics.report import Report
from vdiffsr_jax.photos import sheet
from vdiffsr_jax.photos.write import write_whole

TABLE, SCORES, SHEET = "table.md", "scores.csv", "sheet.png"


@dataclasses.dataclass(frozen=True)
class Method:
    """A row: `images(cases)` gives its results in their order; `steps` None where there are none."""

    name: str
    images: Callable[[Sequence[Case]], Iterable[np.ndarray]]
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`reports` by method; `shown`: each method's middles of the photos on the sheet, by photo."""

    cases: Sequence[Case]
    reports: Mapping[str, Report]
    shown: Mapping[str, Mapping[str, np.ndarray]]
    steps: Mapping[str, int]
    distances: Sequence[str]
    size: int

    def markdown(self) -> str:
        """The table with its protocol."""
        return table.markdown(self.reports, self.steps, self.distances)

    def write(self, folder: Path) -> None:
        """table.md, scores.csv and, unless no photo is on it, sheet.png.

        Raises: ImageError if a file cannot be written.
        """
        write_whole(folder / TABLE, [self.markdown().encode()])
        write_whole(folder / SCORES, [table.per_image(self.reports).encode()])
        rows = self._rows()
        if rows:
            write_whole(folder / SHEET, [sheet.png(sheet.draw([row.items() for row in rows]))])

    def _rows(self) -> list[dict[str, np.ndarray]]:
        rows = []
        judged = self.distances[0] if self.distances else PSNR
        unit = "" if self.distances else " dB"
        for case in self.cases:
            if case.name not in self.shown[BICUBIC]:
                continue
            scale = case.hr.shape[0] // case.lr.shape[0]
            row = {f"LR {case.name}": sheet.middle(sheet.repeat(case.lr, scale), self.size)}
            for method, images in self.shown.items():
                score = self.reports[method].rows[case.name][judged]
                row[f"{method} {score:.{4 if self.distances else 2}f}{unit}"] = images[case.name]
            rows.append(row | {"HR": sheet.middle(case.hr, self.size)})
        return rows


def evaluate(
    cases: Sequence[Case],
    models: Sequence[Method],
    protocol: Protocol,
    scorer: Scorer,
    *,
    on_sheet: Sequence[str] | None = None,
    size: int = 256,
    failed: Callable[[str, str], None],
) -> Evaluation | None:
    """Bicubic, then each model, on all cases; a case that cannot be scored is told to `failed` and left out.

    Args: on_sheet: names of the photos on the sheet, all by default; `size`: pixels a side of its cells.
    Returns: None if no case is left.
    Raises: what the models raise.
    """
    kept = []
    for case in cases:
        try:
            scorer.check(case.hr)
            kept.append(case)
        except NiqeError as error:
            failed(case.name, str(error))
    if not kept:
        return None
    text = protocol.describe([case.name for case in kept])
    if scorer.distances:
        text += f" In brackets: ratio to bicubic's. Distances ({', '.join(scorer.distances)}) are of whole crops."
    methods = [Method(BICUBIC, lambda cases: (case.bicubic for case in cases)), *models]
    reports, shown = {}, {}
    for method in methods:
        report, images = Report(scorer.columns, text), {}
        for case, image in zip(kept, method.images(kept), strict=True):
            report.add(case.name, scorer(image, case.hr))
            if on_sheet is None or case.name in on_sheet:
                images[case.name] = sheet.middle(image, size)
        reports[method.name], shown[method.name] = report, images
    steps = {method.name: method.steps for method in methods if method.steps is not None}
    return Evaluation(kept, reports, shown, steps, scorer.distances, size)
