"""Conversion tables read backwards: the PyTorch name behind each of our parameters."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable

from vdiffsr_jax.conversion.rules import ConversionError, Drop, Op, Table, match

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
    filled = {path: name for path, (name, _) in match(table, result)[0].fill.items()}
    if filled != {path: name for name, (path, _) in result.items()}:
        raise ConversionError("the conversion table cannot be read backwards")
    return result


def _candidates(table: Table, path: str) -> tuple[list[str], Op] | None:
    for rule in table:
        if isinstance(rule, Drop):
            continue
        pattern, parts = _backwards(rule.pattern, rule.path)
        if match := pattern.fullmatch(path):
            choices = [[match[f"g{part}"]] if isinstance(part, int) else part for part in parts]
            return ["".join(choice) for choice in itertools.product(*choices)], rule.op
    return None


@functools.cache
def _backwards(pattern: str, path: str) -> tuple[re.Pattern[str], list[int | list[str]]]:
    r"""A rule turned round: (its path as a pattern, parts of the name: a group's number or a choice of characters).

    In the path, \1 becomes a group g1 of what the name's first group matches.
    """
    parts: list[int | list[str]] = []
    groups: list[str] = []
    for token in _TOKEN.finditer(pattern):
        if token["group"] is not None:
            groups.append(token["group"])
            parts.append(len(groups))
        else:
            parts.append(list(token["choice"] or token["escaped"] or token["literal"]))

    def expand(reference: re.Match[str]) -> str:
        return f"(?P<g{reference[1]}>{groups[int(reference[1]) - 1]})"

    return re.compile(re.sub(r"\\\\(\d)", expand, re.escape(path))), parts
