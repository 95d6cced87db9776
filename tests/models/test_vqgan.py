"""The first stage against the original's numbers, and its training forward."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import parity
from tests.models.filled import filled
from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.vqgan import VQGAN

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = VQGANConfig(ch=64, ch_mult=(1, 1), num_res_blocks=1, n_embed=16)


@pytest.fixture(scope="module")
def small():
    network = build(VQGAN, SMALL)
    return network, jax.tree.map(jnp.asarray, filled(network.abstract))


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_meets_the_reference():
    # Largest measured deviation / tolerance: dec_noquant 1.9e-5 / 2.3e-4.
    lines = parity.compare(GOLDEN / "vqgan_f4")
    assert len(lines) == 13
    assert not [str(line) for line in lines if not line.ok]


def test_training_forward_reaches_every_parameter(small):
    network, params = small
    x = image(2, 8, 8, 3)

    @jax.jit
    def gradient(params):
        def loss(params):
            made = network.apply(params, x)
            return jnp.square(made.image - x).mean() + made.vq_loss, made

        return jax.grad(loss, has_aux=True)(params)

    grads, made = gradient(params)
    assert made.image.shape == x.shape
    assert 1 <= made.usage["perplexity"] <= made.usage["codes_used"] <= SMALL.n_embed
    # A bias before a softmax over keys moves every score alike.
    still = {name for name, g in flatten(grads).items() if np.abs(g).max() < 1e-7}
    assert still == {f"{half}/mid/attn_1/k/bias" for half in ("encoder", "decoder")}


def test_decoding_quantises_unless_told_not_to(small):
    network, params = small
    z = image(1, 4, 4, 3)
    z_q, _, loss = jax.jit(lambda z: network.method(VQGAN.quantize)(params, z))(z)
    assert loss > 0.01
    decode = jax.jit(lambda z, quantize: network.method(VQGAN.decode)(params, z, quantize), static_argnums=1)
    np.testing.assert_array_equal(decode(z, True), decode(z_q, False))
    assert np.abs(decode(z, True) - decode(z, False)).max() > 1e-3


def test_patches_and_several_codes_a_latent_without_normalisation():
    cfg = VQGANConfig(
        ch=16, ch_mult=(1, 1), num_res_blocks=1, num_groups=0, attention=False, patch_size=2, n_embed=9, embed_dim=4,
        z_channels=4, num_codebooks=2,
    )  # fmt: skip
    network = build(VQGAN, cfg)
    assert not [name for name in flatten(network.abstract) if "norm" in name or "attn" in name]
    params, x = jax.tree.map(jnp.asarray, filled(network.abstract)), image(1, 8, 8, 3)
    z = network.method(VQGAN.encode)(params, x)
    assert z.shape == (1, 8 // cfg.factor, 8 // cfg.factor, 4)
    z_q, indices, _ = network.method(VQGAN.quantize)(params, z)
    codes = params["codebook"].reshape(9, 1, 2)
    for half in (slice(0, 2), slice(2, 4)):  # each half of a latent is the code nearest to it
        distance = jnp.square(z[..., half].reshape(1, -1, 2) - codes).sum(axis=-1)
        np.testing.assert_allclose(z_q[..., half].reshape(-1, 2), codes[:, 0][distance.argmin(axis=0)], atol=1e-6)
    assert indices.size == 2 * z.size // 4
    assert network.apply(params, x).image.shape == x.shape


def test_bfloat16_keeps_latents_and_pictures_in_float32():
    network = build(VQGAN, SMALL, dtype=jnp.bfloat16)
    z = jax.eval_shape(network.method(VQGAN.encode), network.abstract, image(1, 8, 8, 3))
    made = jax.eval_shape(network.apply, network.abstract, image(1, 8, 8, 3))
    assert (z.dtype, made.image.dtype, made.vq_loss.dtype) == (jnp.float32,) * 3


def test_a_size_that_does_not_divide_is_refused(small):
    network, params = small
    with pytest.raises(ValueError, match="an image of 8x9 pixels must divide by 2"):
        network.method(VQGAN.encode)(params, image(1, 8, 9, 3))


def test_a_fresh_first_stage_keeps_every_latent_dimension():
    network = build(VQGAN, VQGANConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, n_embed=8))
    params = network.init(jax.random.key(0))
    for name in ("quant_conv", "post_quant_conv"):
        np.testing.assert_allclose(np.linalg.svd(params[name]["kernel"])[1], 1.0, atol=1e-5)


@pytest.mark.parametrize(("num_groups", "kept"), [(32, False), (4, True)])
def test_wide_groups_keep_the_mean_colour(num_groups, kept):
    # What the box's first run lost: with one channel a group every picture came out grey.
    network = build(VQGAN, VQGANConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, n_embed=16, num_groups=num_groups))
    params = network.init(jax.random.key(0))
    decode = jax.jit(lambda z: network.method(VQGAN.decode)(params, z, quantize=False).mean(axis=(1, 2)))
    colours = np.random.default_rng(0).normal(size=(6, 1, 1, 3)).astype(np.float32)
    texture = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    assert (np.asarray(decode(colours + 0.1 * texture)).std(axis=0).max() > 0.1) == kept
