"""Random HR crops: a photo by its area, a place in it uniformly, flips; and the LR half where pairs are given."""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image

from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.photos import Broken, BrokenPhotoError, Cache, DataError
from vdiffsr_jax.data.sources import Collection

log = logging.getLogger(__name__)
_TRIES = 100


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

    def draw(self, rng: np.random.Generator, margin: int = 0) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
        """A crop with up to `margin` more pixels around it, its LR half (None without pairs), and where it starts.

        Returns: region (h, w, 3) uint8 of at least crop_size a side, LR region, (top, left) of the crop inside it.
        Raises: DataError after a hundred broken photos in a row.
        """
        for _ in range(_TRIES):
            # Searching from the right never meets the end: random() < 1.
            photo = int(self._photos[np.searchsorted(self._share, rng.random(), side="right")])
            region = self._cut(photo, rng, margin, centre=False)
            if region is not None:
                return region
        raise DataError(f"{_TRIES} broken photos in a row; see the warnings above for their names")

    def held_out(
        self, index: int, rng: np.random.Generator, margin: int = 0
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
        """As `draw`, photo after photo: the centre of each first, then random places. No flips."""
        for step in range(len(self)):
            photo = int(self._photos[(index + step) % len(self)])
            region = self._cut(photo, rng, margin, centre=index < len(self), flips=False)
            if region is not None:
                return region
        raise DataError("every held-out photo is broken; see the warnings above for their names")

    def _cut(
        self, index: int, rng: np.random.Generator, margin: int, *, centre: bool, flips: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]] | None:
        cfg = self._cfg
        # All numbers are drawn before the photo is read, so that a broken one costs every machine the same.
        shrink, place, offset, flip = rng.uniform(*cfg.shrink), rng.random(2), rng.random(2), rng.random(2) < 0.5
        try:
            hr = self._read(self._hr, "hr", index)
            lr = self._read(self._lr, "lr", self._partner[index]) if self._lr else None
        except BrokenPhotoError:
            return None
        if min(hr.shape[:2]) < cfg.crop_size:
            self._broken.report(self._hr.names[index], "its header gives another size than its pixels")
            return None
        if centre:
            place = np.full(2, 0.5)
        shrink = min(shrink, min(hr.shape[:2]) / cfg.crop_size)
        # The region is the crop and what of the margin fits into the photo, in whole LR pixels.
        sides = [min(cfg.crop_size + margin, int(n / shrink) // cfg.scale * cfg.scale) for n in hr.shape[:2]]
        sides = [max(side, cfg.crop_size) for side in sides]
        source = [min(round(side * shrink), n) for side, n in zip(sides, hr.shape[:2], strict=True)]
        grid = cfg.scale if lr is not None else 1
        top, left = (int(p * ((n - s) // grid + 1)) * grid for p, n, s in zip(place, hr.shape[:2], source, strict=True))
        region = _flip(hr[top : top + source[0], left : left + source[1]], flip & (cfg.flips and flips))
        if source != sides:
            region = np.asarray(Image.fromarray(region).resize((sides[1], sides[0]), Image.Resampling.BOX))
        if lr is not None:
            top, left = top // cfg.scale, left // cfg.scale
            lr = lr[top : top + sides[0] // cfg.scale, left : left + sides[1] // cfg.scale]
            lr = _flip(lr, flip & (cfg.flips and flips))
        start = [
            int(o * ((s - cfg.crop_size) // cfg.scale + 1)) * cfg.scale for o, s in zip(offset, sides, strict=True)
        ]
        return region, lr, (start[0], start[1])

    def _read(self, collection: Collection, kind: str, index: int) -> np.ndarray:
        try:
            return self._cache.get((kind, index), lambda: collection.pixels(index))
        except BrokenPhotoError as error:
            self._broken.report(collection.names[index], error)
            raise

    def _pairs(self) -> dict[int, int]:
        """LR photo of every HR photo, by name without suffix; an LR name may end in x4, as DIV2K's do.

        Raises: DataError naming an HR photo without a partner, or with one of the wrong size.
        """
        assert self._lr is not None
        scale, place = self._cfg.scale, {key: i for i, key in enumerate(self._lr.keys)}
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


def _flip(image: np.ndarray, flip: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1])
