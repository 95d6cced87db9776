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
        """Mean of every column; NaN without rows."""
        count = len(self.rows)
        return {c: math.fsum(r[c] for r in self.rows.values()) / count if count else math.nan for c in self.columns}

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
