"""Every number of one upscaled image: fidelity, naturalness, and what perceptual networks see."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.metrics.niqe import NiqeError, Pristine, niqe
from vdiffsr_jax.metrics.psnr_ssim import luma, psnr, ssim
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.weights import checkpoint

PSNR, SSIM, NIQE = "PSNR-Y", "SSIM-Y", "NIQE"
# What has no learned heads is no LPIPS.
DISTANCES = {"vgg16": "LPIPS (VGG16)", "alexnet": "LPIPS (AlexNet)", "efficientnet_lite0": "feature distance"}


@dataclasses.dataclass(frozen=True)
class Distance:
    """A perceptual distance under its column's name: two images (h, w, 3) uint8 -> number, 0 for equal ones."""

    column: str
    between: Callable[[np.ndarray, np.ndarray], float]

    @staticmethod
    def column_of(directory: str | Path) -> str:
        """The column's name of a checkpoint of kind perceptual.

        Raises: checkpoint.CheckpointError if it is none.
        """
        kind, config, _ = checkpoint.read_config(directory)
        if kind != "perceptual":
            raise checkpoint.CheckpointError(f"{directory} holds a {kind} network, not a perceptual one")
        return DISTANCES[config.backbone]

    @classmethod
    def load(cls, directory: str | Path) -> Distance:
        """Read a checkpoint of kind perceptual.

        Raises: checkpoint.CheckpointError if it is none.
        """
        column = cls.column_of(directory)
        model = checkpoint.load_model(directory)
        network = kinds.network("perceptual", "perceptual", model.config)

        @jax.jit
        def distance(params: Params, pair: jax.Array) -> jax.Array:
            features = network.apply(params, pair / 127.5 - 1, method="features")
            return network.apply(params, [f[:1] for f in features], [f[1:] for f in features], method="compare")[0]

        def between(a: np.ndarray, b: np.ndarray) -> float:
            return float(distance(model.items["perceptual"], jnp.asarray(np.stack([a, b]), jnp.float32)))

        return cls(column, between)


class Scorer:
    """Scores an image against its HR; `columns` in the order of the table, `distances` those with a ratio."""

    def __init__(self, border: int, pristine: Pristine | None = None, distances: Sequence[Distance] = ()) -> None:
        self._border, self._pristine, self._distances = border, pristine, distances
        self.distances = tuple(distance.column for distance in distances)
        self.columns = (PSNR, SSIM, *((NIQE,) if pristine else ()), *self.distances)

    def check(self, hr: np.ndarray) -> None:
        """Raise NiqeError if a photo is too small or too flat for the columns."""
        if self._pristine is not None:
            niqe(self._inside(hr), self._pristine)

    def __call__(self, image: np.ndarray, hr: np.ndarray) -> dict[str, float]:
        """{column: score} of two images (h, w, 3) uint8; distances are of the whole, NIQE is NaN of a flat image."""
        a, b = self._inside(image), self._inside(hr)
        scores = {PSNR: psnr(a, b), SSIM: ssim(a, b)}
        if self._pristine is not None:
            try:
                scores[NIQE] = niqe(a, self._pristine)
            except NiqeError:
                scores[NIQE] = math.nan
        return scores | {distance.column: distance.between(image, hr) for distance in self._distances}

    def _inside(self, image: np.ndarray) -> np.ndarray:
        return luma(image)[self._border : -self._border, self._border : -self._border]
