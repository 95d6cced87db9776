"""Conversion is a table: rules map a PyTorch name pattern to a path in our tree and an operation on the array.

Every problem (no rule, two rules, wrong shape, nothing fills a parameter) is collected and raised once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.weights.lazy_array import LazyArray


class ConversionError(ExpectedError, ValueError):
    """The file does not convert; the message lists every problem."""


@dataclasses.dataclass(frozen=True)
class Op:
    """An invertible change of layout: `forward` from PyTorch's array to ours, and drops no number."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


IDENTITY = Op(lambda x: x, lambda x: x)


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


_TYPES = ("float16", "bfloat16", "float32", "float64")  # of what fills a parameter
Table = Sequence[Rule | Drop]
Shapes = Mapping[str, Sequence[int]]  # by PyTorch name


@dataclasses.dataclass(frozen=True)
class FileKind:
    """How files of one kind of network are recognised, configured and converted.

    `what`: its name in messages. `marks`: sets of tensor names, of which such a file has one whole. `infer`: (shapes by
    name, /, **settings in the place of what shapes tell) -> configuration. `table`: configuration -> rules.
    """

    what: str
    marks: tuple[tuple[str, ...], ...]
    infer: Callable[..., Any]
    table: Callable[[Any], Table]


def need(shapes: Shapes, name: str, what: str, rank: int = 0) -> Sequence[int]:
    """The shape of `name`; raises ConversionError saying that this is not a `what` without it, or with fewer axes."""
    if name not in shapes or len(shapes[name]) < rank:
        raise ConversionError(f"this is not a {what}: it has no {'matrix' if rank == 2 else 'tensor'} {name}")
    return shapes[name]


def count(names: Collection[str], pattern: str) -> int:
    """How many there are by their numbers from 0: the pattern's group is a number, where it begins a name.

    Raises: ConversionError if that is more than there are names.
    """
    found = 1 + max((int(m[1]) for name in names if (m := re.match(pattern, name))), default=-1)
    if found > len(names):
        raise ConversionError(f"a name that begins with {pattern} has number {found - 1}, in {len(names)} tensors")
    return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a table makes of a file: {our path: (torch name, op)} and {dropped name: reason}."""

    fill: dict[str, tuple[str, Op]]
    dropped: dict[str, str]


def match(table: Table, names: Iterable[str]) -> tuple[Plan, list[str]]:
    """Every name to exactly one rule; and the problems: names that no rule or several match, paths filled twice."""
    result, problems = Plan({}, {}), []
    for name in names:
        hits = [(rule, m) for rule in table if (m := re.fullmatch(rule.pattern, name))]
        if len(hits) != 1:
            problems.append(f"{name}: {'no rule' if not hits else f'{len(hits)} rules'} for this name")
            continue
        rule, match = hits[0]
        if isinstance(rule, Drop):
            result.dropped[name] = rule.reason
            continue
        path = match.expand(rule.path)
        if path in result.fill:
            problems.append(f"{name}: {path} is already filled from {result.fill[path][0]}")
        result.fill[path] = (name, rule.op)
    return result, problems


def convert_lazily(
    table: Table, tensors: Mapping[str, LazyArray], want: Mapping[str, Any], what: str
) -> dict[str, LazyArray]:
    """PyTorch tensors -> {our path: array}, strictly and without reading a number yet.

    Args: tensors: by PyTorch name. want: {path: object with .shape}, as `build.flatten(network.abstract)` gives.
    Raises: ConversionError with every missing, unexpected or misshapen name, and every one of another type.
    """
    todo, problems = match(table, tensors)
    result: dict[str, LazyArray] = {}
    for path, (name, op) in todo.fill.items():
        if path not in want:
            problems.append(f"unexpected: {name} (would fill {path})")
            continue
        array, needed = _apply(op, tensors[name]), tuple(want[path].shape)
        if tensors[name].dtype.name not in _TYPES:
            problems.append(f"{name}: is {tensors[name].dtype}, needs floating numbers (quantised?)")
        elif array is None:
            problems.append(f"{name}: shape {tuple(tensors[name].shape)} does not fit {path} {needed}")
        elif array.shape != needed:
            problems.append(f"{name}: gives {path} shape {array.shape}, needs {needed}")
        else:
            result[path] = array
    if missing := [path for path in want if path not in todo.fill]:
        theirs = _spelling(table, want)
        problems += [
            f"missing: {theirs.get(path, path)} {tuple(want[path].shape)}, which would fill {path}" for path in missing
        ]
    if problems:
        raise ConversionError(f"{what} does not convert, {len(problems)} problems:\n  " + "\n  ".join(problems))
    return result


def _spelling(table: Table, paths: Iterable[str]) -> dict[str, str]:
    """{our path: PyTorch name}; nothing where the table cannot be read backwards."""
    from vdiffsr_jax.conversion.original_names import original_names  # which stands on this module

    try:
        return {path: name for name, (path, _) in original_names(table, paths).items()}
    except (ConversionError, re.error):
        return {}


def _apply(op: Op, tensor: LazyArray) -> LazyArray | None:
    """The tensor in our layout; None if its shape does not allow the op."""
    try:
        return tensor.laid_out(op.forward)
    except (ValueError, IndexError):
        return None
