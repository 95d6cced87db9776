"""Weights rounded once against layers that round them in every call; two batches at once on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.ops import attention
from vdiffsr_jax.sampling import tile_model
from vdiffsr_jax.sampling.tile_program import tile_program, upscale_tiles


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


@pytest.mark.parametrize(
    ("network", "end", "value"),
    [
        ("first_stage", "decoder/conv_out/bias", np.inf),
        ("first_stage", "codebook", np.nan),
        ("denoiser", "conv_out/kernel", -np.inf),
        ("pvar", "tokenizer/encoder/conv_in/kernel", np.nan),
        ("pvar", "tokenizer/quantizer/codebook", np.nan),
    ],
)
def test_a_number_that_is_not_finite_comes_out_as_none(network: str, end: str, value: float):
    """Wherever it enters: neither clipping nor the choice of a code hides it."""
    config = tiny_config()
    model, items = assemble(config), random_items(config)
    flat = dict(flatten(items[network]))
    (name,) = [name for name in flat if name.endswith(end)]
    flat[name] = np.asarray(flat[name]).copy()
    flat[name].flat[-1] = value
    items = items | {network: unflatten(flat, items[network])}
    lr = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    eps = np.zeros((1, 1, 16, 16, config.first_stage.embed_dim), np.float32)
    hr = upscale_tiles(model, items, lr, None, eps, steps=1, method="ancestral")
    assert np.isnan(hr).any()


def test_attention_is_chosen_for_the_tiles_devices(monkeypatch):
    """Of a machine whose default devices are GPUs: cuDNN's kernels cannot be compiled for its processor."""
    asked = set()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(attention, "suits_cudnn", lambda platform, *_: asked.add(platform))
    config = tiny_config()
    model = assemble(config)
    program = tile_program(model, tile_model.tile_mesh(jax.devices("cpu")[:1]), steps=1, method="ancestral")
    lr, origins = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 2), jnp.int32)
    program.trace(random_items(config), lr, None, origins, jnp.zeros((2,), jnp.uint32))
    assert asked == {"cpu"}


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
