"""Arrays in groups of bounded size: they are read and written together, and lie in memory together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def batches(sizes: Sequence[int], limit: float) -> list[slice]:
    """Neighbours that together stay below `limit` bytes, or a single one above it."""
    edges, filled = [0], 0
    for i, size in enumerate(sizes):
        if i > edges[-1] and filled + size > limit:
            edges.append(i)
            filled = 0
        filled += size
    return [slice(*edge) for edge in itertools.pairwise([*edges, len(sizes)])] if sizes else []
