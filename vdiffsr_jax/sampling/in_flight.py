"""One photo on its way through the model: its tiles leave and come back in order, and what it raises stays with it."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from vdiffsr_jax.photos import color
from vdiffsr_jax.sampling import tiling
from vdiffsr_jax.sampling.errors import SamplingError


class Failure(NamedTuple):
    """A photo without a result: what it raised, and how many of its tiles had come back by then."""

    error: Exception
    computed: int


class Tile(NamedTuple):
    """One tile of a photo: lr (t, t, 3) float32 in [-1, 1], origin its (top, left) LR pixel.

    `prior_lr`: the tile (t, t, 3) of another photo whose prior it takes, see `InFlight`.
    """

    photo: InFlight
    lr: np.ndarray
    origin: tuple[int, int]
    prior_lr: np.ndarray | None = None


class InFlight:
    """A photo (h, w, 3) uint8 or uint16 between its first tile and its result; `error`: why it will have none.

    `prior_image`: another one, of any size, whose prior its tiles take at the same relative place; None: their own.
    """

    def __init__(self, image: np.ndarray, prior_image: np.ndarray | None = None) -> None:
        self.error: Exception | None = None
        self._image, self._prior_image, self._computed = image, prior_image, 0
        self._rounding: list[Future[None]] = []
        self._blender: tiling.Blender | None = None

    def check(self) -> None:
        """Raise SamplingError unless it is a picture, and so is the one whose prior it takes."""
        for image in (self._image,) if self._prior_image is None else (self._image, self._prior_image):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
                raise SamplingError(f"an image must be (h, w, 3) uint8 or uint16, not {image.shape} {image.dtype}")
        if self._prior_image is self._image:
            raise SamplingError("prior.mode=shuffled takes the prior of the next photo in the list: one alone has none")

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Whatever is raised inside is this photo's failure, and goes no further."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  (whoever gets the outcome tells the expected from the others)
            self.error = error

    def tiles(
        self, grid: tiling.Grid, *, scale: int, blend: str, color_fix: str, threads: ThreadPoolExecutor
    ) -> Iterator[Tile]:
        """Its tiles, as long as it has not failed."""
        self._blender = tiling.Blender(grid, scale, blend=blend)
        self._color_fix, self._threads = color_fix, threads
        self._out = np.empty((grid.height * scale, grid.width * scale, 3), self._image.dtype)
        for index in range(grid.count):
            if self.error is not None:
                return
            origin, other = grid.position(index), self._prior_image
            lr = _scaled(tiling.cut(self._image, origin, grid.tile))
            if other is None:
                yield Tile(self, lr, origin)
            else:
                place = tiling.same_place(grid, index, *other.shape[:2])
                yield Tile(self, lr, origin, _scaled(tiling.cut(other, place, grid.tile)))

    def add(self, hr: np.ndarray, origin: tuple[int, int]) -> None:
        """Blend the next tile (scale t, scale t, 3). Raises: SamplingError if it is not finite."""
        assert self._blender is not None
        self._computed += 1
        if not np.isfinite(hr).all():
            raise SamplingError(
                f"the model's numbers are not finite in the tile at row {origin[0]}, column {origin[1]}: its weights "
                "may be damaged, or bfloat16 too coarse for them"
            )
        finished = self._blender.add(hr)
        if finished is not None:
            self._rounding.append(self._threads.submit(self._round, *finished))

    @property
    def settled(self) -> bool:
        """Whether every tile came back, or none is waited for any more."""
        return self.error is not None or (self._blender is not None and self._blender.done)

    def outcome(self) -> np.ndarray | Failure:
        """(scale h, scale w, 3) in the photo's dtype, or why there is none."""
        with self.guarded():
            if self.error is None:
                for rounding in self._rounding:
                    rounding.result()
                return color.fix(self._out, self._image, self._color_fix)
        assert self.error is not None
        return Failure(self.error, self._computed)

    def _round(self, top: int, rows: np.ndarray) -> None:
        """Finished rows into the picture; in place, because passes over memory are what this costs."""
        rows *= np.float32(0.5)
        rows += np.float32(0.5)
        np.clip(rows, 0, 1, out=rows)
        rows *= np.float32(np.iinfo(self._out.dtype).max)
        self._out[top : top + len(rows)] = np.rint(rows, out=rows)


def with_next(images: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image and the one after it, the first one after the last."""
    rest = iter(images)
    for first in rest:  # which takes the others with it
        yield from itertools.pairwise(itertools.chain([first], rest, [first]))


def _scaled(tile: np.ndarray) -> np.ndarray:
    """Whole numbers of the dtype's range -> float32 in [-1, 1]."""
    scaled = tile.astype(np.float32)
    scaled /= np.float32(np.iinfo(tile.dtype).max)
    return (scaled - np.float32(0.5)) / np.float32(0.5)


def take(waiting: deque[Tile], most: int, *, one_photo: bool) -> list[Tile]:
    """The next batch, from the front."""
    tiles: list[Tile] = []
    while waiting and len(tiles) < most and not (one_photo and tiles and waiting[0].photo is not tiles[0].photo):
        tiles.append(waiting.popleft())
    return tiles


def paste_tiles(tiles: Sequence[Tile], finished: np.ndarray) -> int:
    """HR tiles (b, scale t, scale t, 3) to their photos, as far as these have not failed; returns how many.

    `finished` may have more at its end, where the batch was filled up.
    """
    count = 0
    for tile, hr in zip(tiles, finished, strict=False):
        if tile.photo.error is None:
            count += 1
            with tile.photo.guarded():
                tile.photo.add(hr, tile.origin)
    return count
