"""Weights rounded once against layers that round them in every call; two batches at once on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.sampling import tile_model


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


def test_two_batches_run_at_once_on_a_cpu(plain_upscaler, monkeypatch):
    """The second, of one turn, is there while the first is still at its thousands."""

    weight = np.ones((3, 3), np.float32)

    def program(*_, **__):
        def turns(params, lr, *_):
            # With a product, as networks have: what XLA takes for cheap, the thread that starts it computes itself.
            return jax.lax.fori_loop(0, lr[0, 0, 0, 0].astype(jnp.int32), lambda _, x: jnp.cos(x @ weight), lr)

        return jax.jit(turns)

    monkeypatch.setattr(tile_model, "tile_program", program)
    monkeypatch.setattr(plain_upscaler._model, "_programs", {})

    def launch(turns):
        lr = np.full((1, 16, 16, 3), turns, np.float32)
        how = {"prior_lr": None, "seed": 0, "steps": 1, "method": "ancestral"}
        return plain_upscaler._model.launch(lr, np.zeros((1, 2), np.int32), **how)

    launch(1).block_until_ready()
    first, second = launch(200_000), launch(1)
    second.block_until_ready()
    assert not first.is_ready()
