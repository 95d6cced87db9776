"""How visible tile borders are: gradients there against the same pixels with the tiles cut half a tile further."""

from __future__ import annotations

import functools

import numpy as np

from vdiffsr_jax.sampling.tiling import Grid
from vdiffsr_jax.sampling.upscaler import Settings


class ShiftedGrid(Grid):
    """The same tiles, all but the first and the last half a tile further."""

    @functools.cached_property
    def rows(self):
        return shifted(self.height, self.tile, self.stride)

    @functools.cached_property
    def columns(self):
        return shifted(self.width, self.tile, self.stride)


def shifted(length, tile, stride):
    inner = range(tile // 2, max(length - tile, 0), stride)
    return tuple(dict.fromkeys([0, *inner, max(length - tile, 0)]))


def borders(starts, tile, length, scale):
    """HR pixels with another tile's beginning or end just before them."""
    ends = {s + tile for s in starts} | set(starts)
    return sorted(scale * e for e in ends if 0 < e < length)


def gradient(hr, grid, scale):
    """Mean absolute step across the borders of `grid` in (h, w, 3)."""
    hr = hr.astype(np.float64)
    across = [np.abs(hr[:, x] - hr[:, x - 1]).ravel() for x in borders(grid.columns, grid.tile, grid.width, scale)]
    down = [np.abs(hr[y] - hr[y - 1]).ravel() for y in borders(grid.rows, grid.tile, grid.height, scale)]
    return np.concatenate([*across, *down]).mean()


def seam_ratio(upscaler, image, monkeypatch, **settings):
    """Gradient across the borders of the normal tiles, over the gradient there with shifted tiles."""
    settings = Settings(**settings)
    grid = upscaler.grid(*image.shape[:2], settings)
    moved = ShiftedGrid(grid.height, grid.width, grid.tile, grid.stride)
    assert set(grid.columns) - {0, grid.width - grid.tile} != set(moved.columns) - {0, grid.width - grid.tile}
    normal = next(upscaler.stream([image], settings))
    with monkeypatch.context() as patch:
        patch.setattr(upscaler, "grid", lambda *_: moved)
        other = next(upscaler.stream([image], settings))
    return gradient(normal, grid, upscaler.config.scale) / gradient(other, grid, upscaler.config.scale)
