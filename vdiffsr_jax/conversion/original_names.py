"""Conversion tables read backwards: the PyTorch name behind each of our parameters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from vdiffsr_jax.conversion.rules import ConversionError, Drop, Op, Rule, Table, plan

# What a pattern of the tables is made of: an escaped character, a group, a choice of one character, a character.
_TOKEN = re.compile(r"\\(?P<escaped>.)|\((?P<group>[^()]*)\)|\[(?P<choice>\w+)\]|(?P<literal>[^\\()\[\]])")


def original_names(table: Table, paths: Iterable[str]) -> dict[str, tuple[str, Op]]:
    """{PyTorch name: (our path, op)}: the first rule of the table that leads to each path.

    Where a pattern leaves a module's number open (`[12]`), it is the first one that no other module has.
    Raises: ConversionError listing the paths that no rule leads to.
    """
    paths = list(paths)
    candidates = {path: found for path in paths if (found := _candidates(table, path))}
    if lost := [path for path in paths if path not in candidates]:
        raise ConversionError("no PyTorch names are known for:\n  " + "\n  ".join(lost))
    settled = {names[0] for names, _ in candidates.values() if len(names) == 1}
    taken = {name.rsplit(".", i)[0] for name in settled for i in range(1, name.count(".") + 1)}
    result = {}
    for path, (names, op) in candidates.items():
        free = [name for name in names if not {name.rsplit(".", i)[0] for i in range(1, 3)} & taken]
        result[(free or names)[0] if len(names) > 1 else names[0]] = (path, op)
    filled = {path: name for path, (name, _) in plan(table, result).fill.items()}
    if filled != {path: name for name, (path, _) in result.items()}:
        raise ConversionError("the conversion table cannot be read backwards")
    return result


def _candidates(table: Table, path: str) -> tuple[list[str], Op] | None:
    for rule in table:
        if isinstance(rule, Drop):
            continue
        tokens = list(_TOKEN.finditer(rule.pattern))
        groups = [token["group"] for token in tokens if token["group"] is not None]
        match = re.fullmatch(_path_pattern(rule, groups), path)
        if match:
            values = iter(match[f"g{i + 1}"] for i in range(len(groups)))
            parts = [
                [next(values)] if t["group"] is not None else list(t["choice"] or t["escaped"] or t["literal"])
                for t in tokens
            ]
            return ["".join(choice) for choice in itertools.product(*parts)], rule.op
    return None


def _path_pattern(rule: Rule, groups: list[str]) -> str:
    r"""The rule's path as a pattern: \1 becomes what its first group matches."""
    seen = set()

    def expand(reference: re.Match[str]) -> str:
        i = int(reference[1])
        first = i not in seen
        seen.add(i)
        return f"(?P<g{i}>{groups[i - 1]})" if first else f"(?P=g{i})"

    return re.sub(r"\\\\(\d)", expand, re.escape(rule.path))
