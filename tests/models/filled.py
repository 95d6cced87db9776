"""Parameters for tests without compiling an initialisation."""

from __future__ import annotations

import jax
import numpy as np

from vdiffsr_jax.models.build import Params


def filled(abstract: Params, seed: int = 0) -> Params:
    """Random parameters, none of them zero: matrices scaled by fan-in, vectors near 1 for scales and 0 for biases."""
    rng = np.random.default_rng(seed)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        value = rng.normal(size=leaf.shape)
        if len(leaf.shape) > 1:
            value = value / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            value = 0.1 * value + (path[-1].key == "scale")
        return value.astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, abstract)
