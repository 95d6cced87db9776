"""Random HR crops: a photo by its area, a place in it uniformly, flips; and the LR half where pairs are given."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.photos import Broken, Cache, DataError
from vdiffsr_jax.data.sources import Collection
from vdiffsr_jax.photos.photo import ImageError

log = logging.getLogger(__name__)
_TRIES = 100
Region = tuple[np.ndarray, np.ndarray | None, tuple[int, int]]


class Crops:
    """Draws crops from a collection; photos smaller than a crop are left out and counted in `too_small`."""

    def __init__(
        self, cfg: DataConfig, paths: tuple[str, ...], lr_paths: tuple[str, ...], broken: Broken, cache_bytes: int
    ) -> None:
        self._cfg, self._broken, self._cache = cfg, broken, Cache(cache_bytes)
        self._hr = Collection(paths, broken)
        large = np.flatnonzero((self._hr.sizes >= cfg.crop_size).all(axis=1))
        self.too_small = len(self._hr.names) - len(large)
        if self.too_small:
            log.warning("%d photos are smaller than %d pixels and left out", self.too_small, cfg.crop_size)
        if not len(large):
            raise DataError(
                f"no photo in {', '.join(paths)} has {cfg.crop_size} x {cfg.crop_size} pixels: give larger ones or "
                "lower data.crop_size"
            )
        self._photos = large
        area = np.cumsum(self._hr.sizes[large].prod(axis=1, dtype=np.float64))
        self._share = area / area[-1]
        self._lr = Collection(lr_paths, broken) if lr_paths else None
        self._partner = self._pairs() if self._lr else {}

    def __len__(self) -> int:
        return len(self._photos)

    def draw(self, rng: np.random.Generator, margin: int = 0) -> Region:
        """A crop with up to `margin` more pixels around it, its LR half (None without pairs), and where it starts.

        Returns: region (h, w, 3) uint8 of at least crop_size a side, LR region, (top, left) of the crop inside it.
        Raises: DataError after a hundred broken photos in a row.
        """
        candidates = (self._draw_one(rng, margin) for _ in range(self._cfg.candidates))
        return max(candidates, key=lambda region: _detail(region[0])) if self._cfg.candidates > 1 else next(candidates)

    def _draw_one(self, rng: np.random.Generator, margin: int) -> Region:
        for _ in range(_TRIES):
            # Searching from the right never meets the end: random() < 1.
            photo = int(self._photos[np.searchsorted(self._share, rng.random(), side="right")])
            region = self._cut(photo, rng, margin, centre=False)
            if region is not None:
                return region
        raise DataError(f"{_TRIES} broken photos in a row; see the warnings above for their names")

    def held_out(self, index: int, rng: np.random.Generator, margin: int = 0) -> Region:
        """As `draw`, photo after photo: the centre of each first, then random places. No flips.

        A random place in any other photo stands for a broken one, so that none counts twice for its neighbour.
        """
        photo = self._photos[index % len(self)]
        region = self._cut(int(photo), rng, margin, centre=index < len(self), flips=False)
        if region is not None:
            return region
        for photo in rng.permutation(self._photos):
            region = self._cut(int(photo), rng, margin, centre=False, flips=False)
            if region is not None:
                return region
        raise DataError("every held-out photo is broken; see the warnings above for their names")

    def _cut(
        self, index: int, rng: np.random.Generator, margin: int, *, centre: bool, flips: bool = True
    ) -> Region | None:
        cfg = self._cfg
        # All numbers are drawn before the photo is read, so that a broken one costs every machine the same.
        shrink, place, offset, flip = rng.uniform(*cfg.shrink), rng.random(2), rng.random(2), rng.random(2) < 0.5
        flip &= (cfg.vertical_flips and flips, cfg.flips and flips)
        try:
            hr = self._read(self._hr, "hr", index)
            lr = self._read(self._lr, "lr", self._partner[index]) if self._lr else None
        except ImageError:
            return None
        if min(hr.shape[:2]) < cfg.crop_size:
            self._broken.report(self._hr.names[index], "its header gives another size than its pixels")
            return None
        if centre:
            place = offset = np.full(2, 0.5)
        shrink = min(shrink, min(hr.shape[:2]) / cfg.crop_size)
        spans = [
            _span(n, p, shrink, margin, cfg, paired=lr is not None) for n, p in zip(hr.shape[:2], place, strict=True)
        ]
        (rows, height), (columns, width) = spans
        region = _flip(hr[rows, columns], flip)
        if region.shape[:2] != (height, width):
            region = np.asarray(Image.fromarray(region).resize((width, height), Image.Resampling.BOX))
        if lr is not None:
            rows, columns = (slice(span.start // cfg.scale, span.stop // cfg.scale) for span in (rows, columns))
            lr = _flip(lr[rows, columns], flip)
        spare = (np.array([height, width]) - cfg.crop_size) // cfg.scale
        top, left = (offset * (spare + 1)).astype(int) * cfg.scale
        return region, lr, (int(top), int(left))

    def _read(self, collection: Collection, kind: str, index: int) -> np.ndarray:
        try:
            return self._cache.get((kind, index), lambda: collection.pixels(index))
        except ImageError as error:
            self._broken.report(collection.names[index], error)
            raise

    def _pairs(self) -> dict[int, int]:
        """LR photo of every HR photo, by name without suffix; an LR name may end in x4, as DIV2K's do.

        Raises: DataError naming an HR photo without a partner or with one of the wrong size, or two of one name.
        """
        assert self._lr is not None
        scale = self._cfg.scale
        _check_names(self._lr.keys, self._lr.names)
        _check_names([self._hr.keys[i] for i in self._photos], [self._hr.names[i] for i in self._photos])
        place = {key: i for i, key in enumerate(self._lr.keys)}
        partner, missing = {}, []
        for i in map(int, self._photos):
            key = self._hr.keys[i]
            found = place.get(key, place.get(f"{key}x{scale}"))
            if found is None:
                missing.append(self._hr.names[i])
            elif (self._hr.sizes[i] != self._lr.sizes[found] * scale).any():
                (h, w), (lr_h, lr_w) = self._hr.sizes[i], self._lr.sizes[found]
                raise DataError(
                    f"{self._lr.names[found]} has {lr_w} x {lr_h} pixels, but its HR partner {w} x {h}: not 1/{scale}"
                )
            else:
                partner[i] = found
        if missing:
            raise DataError(
                f"{len(missing)} HR photos have no LR partner of the same name in data.lr_sources, such as {missing[0]}"
            )
        return partner


def _check_names(keys: Sequence[str], names: Sequence[str]) -> None:
    """Names tell pairs, so no two may be alike. Raises: DataError."""
    seen: dict[str, str] = {}
    for key, name in zip(keys, names, strict=True):
        if (other := seen.setdefault(key, name)) != name:
            raise DataError(
                f"{other} and {name} are both called {key!r}, and names tell which photos are a pair: rename one, or "
                "name a folder above both in data.sources and data.lr_sources"
            )


def _span(length: int, place: float, shrink: float, margin: int, cfg: DataConfig, *, paired: bool) -> tuple[slice, int]:
    """Of one axis: the pixels to take from a photo, and how many they become: the crop and what fits of the margin."""
    fits = int(length / shrink) // cfg.scale * cfg.scale
    size = max(cfg.crop_size, min(cfg.crop_size + margin, fits))
    taken = min(round(size * shrink), length)
    grid = cfg.scale if paired else 1
    start = int(place * ((length - taken) // grid + 1)) * grid
    return slice(start, start + taken), size


def _detail(image: np.ndarray) -> float:
    """Mean difference of neighbouring green pixels."""
    green = image[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _flip(image: np.ndarray, flip: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1])
