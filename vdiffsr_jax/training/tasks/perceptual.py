"""The frozen perceptual distance of a run, read from a `perceptual` checkpoint."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.models.perceptual import Distance, PerceptualDistance
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.task import Placement


class Perceptual:
    """distance(params, a, b) -> (b,); raises ConfigError if init_from.perceptual is missing or something else."""

    def __init__(self, cfg: TrainConfig):
        config = sources.network_in("perceptual", cfg.init_from.perceptual)[2]
        self.directory = str(cfg.init_from.perceptual)
        self.network = kinds.network("perceptual", "perceptual", config, dtype=jnp.dtype(cfg.dtype))

    def load(self, placement: Placement, dtype: sources.Dtypes) -> Flat:
        """{"perceptual/path": array}."""
        return sources.read("perceptual", self.directory, "perceptual", placement, dtype=dtype)

    def maps(self, params: Params, image: jax.Array) -> list[jax.Array]:
        """The backbone's maps of an image, float32, for a discriminator on them."""
        return self.network.method(PerceptualDistance.raw_features)(params, image)

    def __call__(self, params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
        return self.network.method(Distance.__call__)(params, a, b)
