"""Scores per image and their mean, as a table for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def table(protocol: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown: the protocol, then a table whose first column is of names, the others of numbers."""
    lines = [protocol, "", f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class Report:
    """Rows of scores under fixed column names; `protocol` says in one line how they were computed."""

    columns: Sequence[str]
    protocol: str
    rows: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def add(self, name: str, scores: Mapping[str, float]) -> None:
        """One image's scores.

        Raises: ValueError unless they are exactly the columns.
        """
        if set(scores) != set(self.columns):
            raise ValueError(f"scores {sorted(scores)} of {name} are not the columns {sorted(self.columns)}")
        self.rows[name] = dict(scores)

    def mean(self) -> dict[str, float]:
        """Mean of every column over the images that have a value (NIQE of flat ones is NaN); NaN where none has."""
        known = {column: self.values(column) for column in self.columns}
        return {column: math.fsum(values) / len(values) if values else math.nan for column, values in known.items()}

    def values(self, column: str) -> list[float]:
        """One column's scores, without those that are NaN."""
        return [scores[column] for scores in self.rows.values() if not math.isnan(scores[column])]

    def lines(self) -> list[list[str]]:
        """[image, its scores], the mean last."""
        rows = [*self.rows.items(), ("mean", self.mean())]
        return [[name, *(f"{scores[c]:.6g}" for c in self.columns)] for name, scores in rows]

    def csv(self) -> str:
        """Header, one line per image, the mean last."""
        return csv_text([["image", *self.columns], *self.lines()])

    def markdown(self) -> str:
        """The protocol, then a table, the mean last."""
        rows = [*self.rows.items(), ("**mean**", self.mean())]
        cells = [[name, *(f"{scores[c]:.4f}" for c in self.columns)] for name, scores in rows]
        return table(self.protocol, ["image", *self.columns], cells)
