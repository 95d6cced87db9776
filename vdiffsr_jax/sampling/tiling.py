"""A photo as overlapping tiles of one size: where they lie, how they blend back (numpy only).

Everything here is streamed: the accumulator holds one row of tiles, never the whole picture in floating point.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Float32, Shaped

BLENDS = ("cosine", "uniform")


def tile_starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """First pixels of the tiles along one axis: 0, stride, 2 stride, ...; the last is length - tile.

    An axis no longer than the tile has one tile, which then needs padding.

    Raises: ValueError unless 1 <= stride <= tile.
    Source: the image splitter of ResShift and SinSR.
    """
    if not 1 <= stride <= tile:
        raise ValueError(f"stride={stride} must lie in 1..{tile} (the tile), or pixels would stay uncovered")
    if length <= tile:
        return (0,)
    return tuple(dict.fromkeys(min(start, length - tile) for start in range(0, length, stride)))


@dataclasses.dataclass(frozen=True)
class Grid:
    """Tiles of `tile` x `tile` LR pixels over an image of height x width, in rows from the top, each from the left."""

    height: int
    width: int
    tile: int
    stride: int

    @functools.cached_property
    def rows(self) -> tuple[int, ...]:
        """First LR row of each row of tiles."""
        return tile_starts(self.height, self.tile, self.stride)

    @functools.cached_property
    def columns(self) -> tuple[int, ...]:
        """First LR column of each column of tiles."""
        return tile_starts(self.width, self.tile, self.stride)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    def position(self, index: int) -> tuple[int, int]:
        """(top, left) LR pixel of one tile."""
        row, column = divmod(index, len(self.columns))
        return self.rows[row], self.columns[column]


def same_place(grid: Grid, index: int, height: int, width: int) -> tuple[int, int]:
    """(top, left) in an image of height x width of what lies there, relatively, where tile `index` lies in its own.

    Edge falls on edge; along an axis that one tile of `grid` covers, it is the middle.
    """

    def along(start: int, length: int, other: int) -> int:
        free, others = max(length - grid.tile, 0), max(other - grid.tile, 0)
        return (2 * start * others + free) // (2 * free) if free else others // 2

    top, left = grid.position(index)
    return along(top, grid.height, height), along(left, grid.width, width)


def cut(image: Shaped[np.ndarray, "h w c"], place: tuple[int, int], side: int) -> Shaped[np.ndarray, "{side} {side} c"]:
    """The tile of an image at `place` = (top, left).

    Where the image is smaller it is padded to the right and the bottom.

    Padding reflects without repeating the edge, again and again where the image is smaller than what is missing
    (16 pixels -> 64: there and back three times); a single pixel is repeated.
    """
    top, left = place
    tile = image[top : top + side, left : left + side]
    missing = [(0, side - n) for n in tile.shape[:2]]
    return np.pad(tile, [*missing, (0, 0)], mode="reflect") if any(m for _, m in missing) else tile


def blend_weights(starts: tuple[int, ...], tile: int, blend: str) -> Float[np.ndarray, "tiles {tile}"]:
    """Weights of every tile along one axis; at each pixel they sum to one over the tiles covering it.

    `cosine`: a raised-cosine ramp as wide as the overlap with each neighbour, flat between. `uniform`: the plain
    average of the original implementations. The weight of a pixel is the product of its two axes' weights.
    """
    if blend not in BLENDS:
        raise ValueError(f"blend={blend!r} must be one of {', '.join(BLENDS)}")
    profiles = np.ones((len(starts), tile))
    if blend == "cosine":
        for i in range(1, len(starts)):
            overlap = starts[i - 1] + tile - starts[i]
            ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))
            profiles[i, :overlap] *= ramp
            profiles[i - 1, tile - overlap :] *= ramp[::-1]
    total = np.zeros(starts[-1] + tile)
    for start, profile in zip(starts, profiles, strict=True):
        total[start : start + tile] += profile
    return np.stack([p / total[s : s + tile] for s, p in zip(starts, profiles, strict=True)])


class Blender:
    """Weighted sum of HR tiles, in grid order, on the host; finished rows leave as soon as no tile can change them.

    Memory: one row of tiles in float32, (tile * scale, width * scale, 3).
    """

    def __init__(self, grid: Grid, scale: int, blend: str = "cosine") -> None:
        self.grid, self.scale = grid, scale
        self.height, self.width = grid.height * scale, grid.width * scale
        side = grid.tile * scale
        self._rows = blend_weights(tuple(s * scale for s in grid.rows), side, blend).astype(np.float32)
        self._columns = blend_weights(tuple(s * scale for s in grid.columns), side, blend).astype(np.float32)
        self._sum = np.zeros((side, max(self.width, side), 3), np.float32)
        self._next = 0

    def add(self, tile: Float32[np.ndarray, "side side c"]) -> tuple[int, Float32[np.ndarray, "n width c"]] | None:
        """Add the next tile, of tile * scale pixels a side.

        Returns: after the last tile of a row, (first HR row, finished rows).
        """
        row, column = divmod(self._next, len(self.grid.columns))
        self._next += 1
        side, left = self.grid.tile * self.scale, self.grid.columns[column] * self.scale
        weight = self._rows[row][:, None, None] * self._columns[column][None, :, None]
        self._sum[:, left : left + side] += tile * weight
        if column + 1 < len(self.grid.columns):
            return None
        top = self.grid.rows[row] * self.scale
        if row + 1 == len(self.grid.rows):
            return top, self._sum[: self.height - top, : self.width]
        advance = self.grid.rows[row + 1] * self.scale - top
        finished = self._sum[:advance, : self.width].copy()
        self._sum[: side - advance] = self._sum[advance:].copy()
        self._sum[side - advance :] = 0
        return top, finished

    @property
    def done(self) -> bool:
        """Whether every tile was added."""
        return self._next == self.grid.count
