"""Conversion of tensors that already lie in memory, there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from vdiffsr_jax.conversion.rules import Table, convert_lazily, match
from vdiffsr_jax.weights.lazy_array import LazyArray


def convert(
    table: Table, names: Iterable[str], read: Callable[[str], np.ndarray], want: Mapping[str, Any], what: str
) -> dict[str, np.ndarray]:
    """`convert_lazily` of tensors read by name: {our path: array}."""
    tensors = {name: LazyArray.of(read(name)) for name in names}
    return {path: lazy.read() for path, lazy in convert_lazily(table, tensors, want, what).items()}


def invert(table: Table, names: Iterable[str], params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{our path: array} -> {PyTorch name: array} for the given PyTorch names; dropped buffers are left out."""
    todo, problems = match(table, names)
    assert not problems
    return {name: np.ascontiguousarray(op.inverse(np.asarray(params[path]))) for path, (name, op) in todo.fill.items()}
