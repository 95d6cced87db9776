"""Weights rounded once against layers that round them in every call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import flatten


def test_rounding_once_changes_no_number():
    config = tiny_config()
    model, items = assemble(config, dtype=jnp.bfloat16), random_items(config)
    once = {name: network.as_computed(items[name]) for name, network in model.networks.items()}
    lr = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)

    @jax.jit
    def whole(items):
        window = model.enlarge(lr)
        x = model.encode(items, window)
        return model.decode(items, model.denoiser(items, lr, window)(x, jnp.zeros((1,), jnp.int32)))

    np.testing.assert_array_equal(whole(once), whole(items))
    leaves = flatten(once)
    assert all(leaf.dtype == jnp.float32 for name, leaf in leaves.items() if "codebook" in name or "norm" in name)
    rounded = sum(leaf.size for leaf in leaves.values() if leaf.dtype == jnp.bfloat16)
    assert rounded > 0.8 * sum(leaf.size for leaf in leaves.values())
