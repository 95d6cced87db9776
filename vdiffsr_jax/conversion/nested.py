"""What lies in dictionaries inside dictionaries, where a file may nest them without end, or hold one in many places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from vdiffsr_jax.conversion.pickle_reader import PickleError

_DEPTH = 64  # one that holds itself has no end
_VISITS = 1_000_000  # where each of 64 holds the next one twice, the walk has none either


def leaves(tree: Mapping[Any, Any], branch: type[Mapping[Any, Any]] = dict) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(keys from the top, value) of every value that is no `branch`.

    Raises: PickleError if they lie too deep in one another, or are too many.
    """
    return _walk(tree, branch, (), itertools.count())


def _walk(
    tree: Mapping[Any, Any], branch: type[Mapping[Any, Any]], keys: tuple[Any, ...], visits: Iterator[int]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in tree.items():
        if len(keys) > _DEPTH or next(visits) > _VISITS:
            raise PickleError(f"its values lie more than {_DEPTH} deep, or are more than {_VISITS}: refused")
        if isinstance(value, branch):
            yield from _walk(value, branch, (*keys, key), visits)
        else:
            yield (*keys, key), value
