"""Pictures whose local statistics resemble photographs': discs that hide one another, down to one pixel."""

from __future__ import annotations

import numpy as np


def dead_leaves(seed: int, height: int, width: int, *, discs: int = 500) -> np.ndarray:
    """(height, width, 3) uint8: discs of radii r with density r^-3, each shaded and grained (Lee, Mumford 2001)."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    y, x = np.mgrid[:height, :width]
    largest = min(height, width) / 3
    for radius in np.sort(1 / np.sqrt(rng.uniform(1 / largest**2, 1 / 2**2, discs)))[::-1]:
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        top, left = max(int(row - radius), 0), max(int(column - radius), 0)
        part = (slice(top, int(row + radius) + 2), slice(left, int(column + radius) + 2))
        inside = (y[part] - row) ** 2 + (x[part] - column) ** 2 < radius**2
        color = rng.uniform(20, 235, 3)
        shade = 0.15 * ((y[part] - row) * rng.normal() + (x[part] - column) * rng.normal())
        image[part][inside] = (color + shade[..., None])[inside]
    return np.clip(image + rng.normal(0, 2, (height, width, 1)), 0, 255).astype(np.uint8)
