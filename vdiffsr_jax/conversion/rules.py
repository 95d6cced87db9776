"""Conversion is a table: rules map a PyTorch name pattern to a path in our tree and an operation on the array.

Every problem (no rule, two rules, wrong shape, nothing fills a parameter) is collected and raised once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


class ConversionError(ValueError):
    """The file does not convert; the message lists every problem."""


@dataclasses.dataclass(frozen=True)
class Op:
    """An invertible change of layout. `shape(torch_shape)` predicts what `forward` gives."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


IDENTITY = Op(lambda x: x, lambda x: x)
LINEAR = Op(np.transpose, np.transpose)  # (out, in) <-> (in, out)
CONV = Op(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # OIHW <-> HWIO
CONV1X1 = Op(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])  # OI11 <-> (in, out)


def squeeze(torch_shape_prefix: int) -> Op:
    """Drop `torch_shape_prefix` leading axes of length one."""
    n = torch_shape_prefix
    return Op(lambda x: x.reshape(x.shape[n:]), lambda x: x.reshape((1,) * n + x.shape))


@dataclasses.dataclass(frozen=True)
class Rule:
    r"""`pattern` is matched against the whole PyTorch name; `path` may use its groups, as in r"down/\1/kernel"."""

    pattern: str
    path: str
    op: Op = IDENTITY


@dataclasses.dataclass(frozen=True)
class Drop:
    """A buffer that is recomputed, never trusted; `reason` is shown by --inspect."""

    pattern: str
    reason: str


Table = Sequence[Rule | Drop]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a table makes of a file: {our path: (torch name, op)} and {dropped name: reason}."""

    fill: dict[str, tuple[str, Op]]
    dropped: dict[str, str]


def plan(table: Table, names: Iterable[str]) -> Plan:
    """Match every name to exactly one rule.

    Raises: ConversionError listing the names that no rule or several rules match, and paths filled twice.
    """
    fill: dict[str, tuple[str, Op]] = {}
    dropped: dict[str, str] = {}
    problems = []
    for name in names:
        hits = [(rule, m) for rule in table if (m := re.fullmatch(rule.pattern, name))]
        if len(hits) != 1:
            problems.append(f"{name}: {'no rule' if not hits else f'{len(hits)} rules'} for this name")
            continue
        rule, match = hits[0]
        if isinstance(rule, Drop):
            dropped[name] = rule.reason
            continue
        path = match.expand(rule.path)
        if path in fill:
            problems.append(f"{name}: {path} is already filled from {fill[path][0]}")
        fill[path] = (name, rule.op)
    _raise(problems)
    return Plan(fill, dropped)


def convert(
    table: Table, names: Iterable[str], read: Callable[[str], np.ndarray], want: Mapping[str, Any], what: str
) -> dict[str, np.ndarray]:
    """PyTorch tensors -> {our path: array}, strictly.

    Args: read: gives one tensor by its name, so that only one lies in memory beside the result. want: {path: object
        with .shape}, as `build.flatten(network.abstract)` gives.
    Raises: ConversionError with every missing, unexpected or misshapen name.
    """
    names = list(names)
    problems: list[str] = []
    try:
        todo = plan(table, names)
    except ConversionError as error:
        problems, todo = str(error).splitlines()[1:], Plan({}, {})
        for name in names:  # still report what the matching names would do
            try:
                part = plan(table, [name])
            except ConversionError:
                continue
            todo.fill.update(part.fill)
    for path in want:
        if path not in todo.fill:
            problems.append(f"missing: nothing in the file fills {path} {tuple(want[path].shape)}")
    for path, (name, _) in todo.fill.items():
        if path not in want:
            problems.append(f"unexpected: {name} (would fill {path})")
    result = {}
    if not problems:
        for path, (name, op) in todo.fill.items():
            array = op.forward(read(name))
            if tuple(array.shape) != tuple(want[path].shape):
                problems.append(f"{name}: gives {path} shape {tuple(array.shape)}, needs {tuple(want[path].shape)}")
            result[path] = np.ascontiguousarray(array)
    _raise(problems, what)
    return result


def invert(table: Table, names: Iterable[str], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{our path: array} -> {PyTorch name: array} for the given PyTorch names; dropped buffers are left out."""
    todo = plan(table, names)
    return {name: np.ascontiguousarray(op.inverse(np.asarray(params[path]))) for path, (name, op) in todo.fill.items()}


def _raise(problems: Sequence[str], what: str = "the file") -> None:
    if problems:
        raise ConversionError(f"{what} does not convert, {len(problems)} problems:\n  " + "\n  ".join(problems))
