"""The public model: upscaling of whatever holds a picture, and each part of the model by itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32
from PIL import Image

from vdiffsr_jax.diffusion import resshift, sampler, schedule
from vdiffsr_jax.models.assembled import Items
from vdiffsr_jax.models.cspa import Reading
from vdiffsr_jax.models.prior import Pyramid
from vdiffsr_jax.models.swin_unet import swin_places
from vdiffsr_jax.ops import noise
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling.errors import SamplingError
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

Given = Array | np.ndarray
Tiles = Float[Given, "b t t 3"]
Picture = np.ndarray | Image.Image | str | os.PathLike[str]


class _Parts(NamedTuple):
    """The parts of the model, each compiled when it is first called."""

    encode: Callable[..., jax.Array]
    decode: Callable[..., jax.Array]
    prior: Callable[..., Pyramid]
    denoise: Callable[..., jax.Array]
    attention: Callable[..., tuple[Reading, ...]]


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

    def encode(self, image: Float[Given, "b H W 3"]) -> Float32[Array, "b h w c"]:
        """Image -> latent, not quantised."""
        return self._parts.encode(self._params, image)

    def decode(self, z_0: Float[Given, "b h w c"]) -> Float32[Array, "b H W 3"]:
        """Latent, through its nearest codes, -> image, not clamped."""
        return self._parts.decode(self._params, z_0)

    def prior(self, lr: Tiles) -> Pyramid:
        """What the prior knows of LR tiles: one map per level, coarse to fine.

        Raises: SamplingError if the model has none.
        """
        if self.config.prior is None:
            raise SamplingError("this model has no prior")
        return self._parts.prior(self._params, lr)

    def denoise(self, x: Float[Given, "b t t c"], t: Int[Given, " b"], lr: Tiles) -> Float32[Array, "b t t c"]:
        """f(x, t, lr; prior of lr): z_t / its std at steps t -> prediction of z_0."""
        return self._parts.denoise(self._params, x, t, lr)

    def attention(
        self,
        lr: Tiles,
        place: int,
        query: Sequence[int] | np.ndarray,
        *,
        x: Float[Given, "b t t c"] | None = None,
        t: Int[Given, " b"] | None = None,
    ) -> Reading:
        """Which cells of which level of the prior CSPA reads at one place of the denoiser, for one pixel of the tiles.

        Args: place: of the denoiser's CSPA units, in forward order from 0, negative from the
            last. query: (row, column) in LR pixels, or several (n, 2); a coarser stage answers for the cell that holds
            the pixel. x, t: as for `denoise`; without them, where sampling with seed 0 starts.
        Returns: weights per head, which sum to 1 over the cells of each branch: `same`, (b, heads, p, p) of the level
            aligned with the stage, and `cross`, one (b, heads, p_k, p_k) per level; None where a branch is off. With
            several queries, an axis n after b.
        Raises: SamplingError if the model has no CSPA, no such place, or the query lies outside of the tile.
        """
        if self.config.prior is None or not (self.config.cspa.same or self.config.cspa.cross):
            raise SamplingError("this model has no CSPA, nothing that attends to a prior")
        at = np.atleast_2d(np.asarray(query, np.int32))
        if at.shape[1:] != (2,) or at.min() < 0 or at.max() >= self.tile:
            raise SamplingError(f"query={query}: give row and column, each in 0..{self.tile - 1}")
        places = len(swin_places(self.config.denoiser))
        if not -places <= place < places:
            raise SamplingError(f"place={place}: this model's CSPA stands in {places} places, from 0")
        lr = jnp.asarray(lr)
        if x is None or t is None:
            x, t = self._start(lr)
        reading = self._parts.attention(self._params, x, t, lr, self.prior(lr), jnp.asarray(at))[place]
        one: Reading = jax.tree.map(lambda w: w if np.ndim(query) == 2 else w[:, 0], reading)
        return one

    def _start(self, lr: Float[Array, "b t t 3"]) -> tuple[Float32[Array, "b t t c"], Int32[Array, " b"]]:
        """What the denoiser is first asked of tiles: z_T / its std with the noise of seed 0, and T."""
        steps, z_y = schedule.make(self.config.schedule), self.encode(self._model.assembled.enlarge(lr))
        key, origins = jnp.asarray(noise.field_key(0)), jnp.zeros((lr.shape[0], 2), jnp.int32)
        eps = noise.noise_at(key, origins, fields=1, side=lr.shape[1], channels=z_y.shape[-1])[:, 0]
        x = resshift.scale_input(sampler.start(steps, z_y.astype(jnp.float32), eps), steps.input_std[-1])
        return x, jnp.full(lr.shape[:1], steps.timestep_map[-1], jnp.int32)

    @property
    def _params(self) -> Items:
        """At the model's own fidelity, whatever `upscale` was last asked for."""
        return self._model.at(None).params

    @functools.cached_property
    def _parts(self) -> _Parts:
        model = self._model.assembled
        return _Parts(
            encode=jax.jit(model.encode),
            decode=jax.jit(model.decode),
            prior=jax.jit(lambda items, lr: model.pyramid(items, model.enlarge(lr))),
            denoise=jax.jit(lambda items, x, t, lr: model.denoiser(items, lr)(x, t)),
            attention=jax.jit(model.attention),
        )


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):  # deeper than 8 bits: converted, Pillow cuts them off at 255
            raise SamplingError(f"an image of mode {image.mode}: give its path, or an array of uint8 or uint16")
        return np.asarray(image.convert("RGB"))
    return image if isinstance(image, np.ndarray) else read(Path(image)).color
