"""Ablation runs as data: switches and their values -> cells, each a name and the settings it trains with."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from vdiffsr_jax.config_file import SWITCHES
from vdiffsr_jax.sampling.files import UsageError

Switch = tuple[str, tuple[str, ...]]  # its name and values; the first is the base that --one-at-a-time departs from


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: `name` is fit for a folder; `settings` are KEY=VALUE, one per switch."""

    name: str
    settings: tuple[str, ...]


def parse_switch(text: str) -> Switch:
    """NAME=VALUE,VALUE,...; commas inside brackets belong to a value.

    Raises: UsageError for an unknown name, a missing or a repeated value.
    """
    name, _, values = text.partition("=")
    if name not in SWITCHES:
        raise UsageError(f"--switch {text}: unknown switch {name!r}; known: {', '.join(SWITCHES)}")
    parts = tuple(part.strip() for part in re.split(r",(?![^(\[]*[)\]])", values))
    if not all(parts) or len(set(parts)) < len(parts):
        raise UsageError(f"--switch {text}: write {name}=VALUE,VALUE with values that differ")
    return name, parts


def cells(switches: Sequence[Switch], *, one_at_a_time: bool) -> list[Cell]:
    """Every combination; or the base (the first values) and then each other value by itself.

    Raises: UsageError if a switch is given twice.
    """
    names = [name for name, _ in switches]
    if len(set(names)) < len(names):
        raise UsageError(f"--switch {max(names, key=names.count)} is given twice; list its values in one")
    if not one_at_a_time:
        rows = itertools.product(*(values for _, values in switches))
        return [_cell(names, row, names) for row in rows]
    base = [values[0] for _, values in switches]
    found = [dataclasses.replace(_cell(names, base, names), name="base")]
    for i, (name, values) in enumerate(switches):
        found += [_cell(names, [*base[:i], value, *base[i + 1 :]], [name]) for value in values[1:]]
    return found


def _cell(names: Sequence[str], values: Sequence[str], shown: Sequence[str]) -> Cell:
    # `prior` last: where it is none, its parts must have been set before it went.
    pairs = sorted(zip(names, values, strict=True), key=lambda pair: pair[0] == "prior")
    parts = (
        f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '_', value).strip('_') or 'all'}" for name, value in pairs if name in shown
    )
    return Cell("+".join(parts), tuple(f"{name}={value}" for name, value in pairs))
