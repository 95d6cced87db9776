"""The public model: upscaling of whatever holds a picture, and each part of the model by itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from vdiffsr_jax.models.assembled import Items
from vdiffsr_jax.models.prior import Pyramid
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling.errors import SamplingError
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

Picture = np.ndarray | Image.Image | str | os.PathLike[str]


class _Parts(NamedTuple):
    """The parts of the model, each compiled when it is first called."""

    encode: Callable[[Items, jax.Array], jax.Array]
    decode: Callable[[Items, jax.Array], jax.Array]
    prior: Callable[[Items, jax.Array], Pyramid]
    denoise: Callable[[Items, jax.Array, jax.Array, jax.Array], jax.Array]


class Model(Upscaler):
    """An Upscaler whose parts can be asked one by one; made by `vdiffsr_jax.load`.

    Arrays of the parts are NHWC, pictures in [-1, 1]; h w count LR pixels, which are latent pixels too.
    """

    def upscale(
        self, image: Picture | Sequence[Picture], **settings: object
    ) -> np.ndarray | Image.Image | list[np.ndarray | Image.Image]:
        """Upscale x4; of a list, the tiles share batches.

        Args: image: (h, w, 3) uint8 or uint16, a PIL image, a photo's path, or a list of them. settings: fields of
            `Settings`, such as steps=1, seed=0, overlap=8, color_fix="wavelet".
        Returns: a PIL image for a PIL image, else (4h, 4w, 3) in the picture's dtype; a list for a list.
        Raises: SamplingError, DeviceMemoryError, ImageError.
        """
        given = list(image) if isinstance(image, list | tuple) else [image]
        made = self.stream(map(_pixels, given), Settings(**settings))  # type: ignore[arg-type]
        results = [
            Image.fromarray(hr) if isinstance(lr, Image.Image) else hr for lr, hr in zip(given, made, strict=True)
        ]
        return results if isinstance(image, list | tuple) else results[0]

    def encode(self, image: jax.Array) -> jax.Array:
        """(b, 4h, 4w, 3) -> latent (b, h, w, c), not quantised."""
        return self._parts.encode(self._model.params, image)

    def decode(self, z_0: jax.Array) -> jax.Array:
        """Latent (b, h, w, c), through its nearest codes, -> image (b, 4h, 4w, 3), not clamped."""
        return self._parts.decode(self._model.params, z_0)

    def prior(self, lr: jax.Array) -> Pyramid:
        """What the prior knows of LR tiles (b, t, t, 3): one (b, p_k, p_k, dim) per level, coarse to fine.

        Raises: SamplingError if the model has none.
        """
        if self.config.prior is None:
            raise SamplingError("this model has no prior")
        return self._parts.prior(self._model.params, lr)

    def denoise(self, x: jax.Array, t: jax.Array, lr: jax.Array) -> jax.Array:
        """f(x, t, lr; prior of lr): z_t / its std (b, t, t, c) at steps t (b,) int32 -> prediction of z_0."""
        return self._parts.denoise(self._model.params, x, t, lr)

    @functools.cached_property
    def _parts(self) -> _Parts:
        model = self._model.assembled
        return _Parts(
            encode=jax.jit(model.encode),
            decode=jax.jit(model.decode),
            prior=jax.jit(lambda items, lr: model.pyramid(items, model.enlarge(lr))),
            denoise=jax.jit(lambda items, x, t, lr: model.denoiser(items, lr)(x, t)),
        )


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    return image if isinstance(image, np.ndarray) else read(Path(image)).color
