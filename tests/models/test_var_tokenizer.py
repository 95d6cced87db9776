"""VAR's tokenizer against the original's numbers, generation step by step, and its encoder-only form."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import parity
from tests.models.filled import filled
from vdiffsr_jax.config import VARTokenizerConfig
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.var_tokenizer import VARTokenizer, phi_index

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = VARTokenizerConfig(
    vocab_size=16, z_channels=4, ch=64, ch_mult=(1, 1), num_res_blocks=1, patch_nums=(1, 2, 3), share_quant_resi=2
)


@pytest.fixture(scope="module")
def small():
    network = build(VARTokenizer, SMALL)
    return network, jax.tree.map(jnp.asarray, filled(network.abstract))


def run(small, method, *args):
    network, params = small
    return jax.jit(network.method(method))(params, *args)


def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 3, 3, 4)).astype(np.float32)


def test_meets_the_reference():
    # Largest measured deviation / tolerance: forward_rec 1.2e-5 / 1.7e-4. Its img_from_idx is clamped.
    lines = parity.compare(GOLDEN / "vqvae_multiscale")
    assert len(lines) == 28
    assert not [str(line) for line in lines if not line.ok]


def test_published_levels_share_four_phis():
    # Levels 2 and 7 lie exactly between two ticks: the original's rounding decides, and its numbers show how.
    assert [phi_index(VARTokenizerConfig(), k) for k in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert [phi_index(VARTokenizerConfig(share_quant_resi=1), k) for k in range(10)] == [0] * 10


def test_generation_step_by_step_gives_the_teacher_forcing_input(small):
    tokens = run(small, VARTokenizer.tokens, features())
    want_input, want_sum = run(small, VARTokenizer.var_input_and_f_hat, tokens)
    f_hat, inputs = jnp.zeros_like(want_sum), []
    for k, level in enumerate(tokens):
        step = jax.jit(lambda f_hat, level, k=k: small[0].method(VARTokenizer.next_input)(small[1], k, f_hat, level))
        f_hat, level_input = step(f_hat, level)
        inputs.append(level_input)
    assert inputs.pop() is None
    np.testing.assert_allclose(jnp.concatenate(inputs, axis=1), want_input, atol=1e-5)
    np.testing.assert_allclose(f_hat, want_sum, atol=1e-5)
    assert want_input.shape == (2, 4 + 9, 4)


def test_training_forward_reaches_every_parameter(small):
    network, params = small
    x = np.random.default_rng(0).uniform(-1, 1, (2, 6, 6, 3)).astype(np.float32)

    @jax.jit
    def gradient(params):
        def loss(params):
            made = network.apply(params, x)
            return jnp.square(made.image - x).mean() + made.vq_loss

        return jax.grad(loss)(params)

    still = {name for name, g in flatten(gradient(params)).items() if np.abs(g).max() < 1e-7}
    assert not still


def test_encoder_only_is_the_same_encoder_without_the_decoder(small):
    network, params = small
    half = build(VARTokenizer, SMALL, decoder=False)
    names = flatten(half.abstract).keys()
    assert {name.split("/")[0] for name in flatten(network.abstract).keys() - names} == {"decoder", "post_quant_conv"}
    part = {name: params[name] for name in ("encoder", "quant_conv", "quantizer")}
    half.check(part)
    want = run(small, VARTokenizer.tokens, features())
    for got, level in zip(run((half, part), VARTokenizer.tokens, features()), want, strict=True):
        np.testing.assert_array_equal(got, level)
    with pytest.raises(ValueError, match="built with decoder=False"):
        half.method(VARTokenizer.decode)(part, features())


def test_features_of_another_size_are_refused(small):
    with pytest.raises(ValueError, match="features of 4x4 do not fit the finest level, 3x3"):
        small[0].method(VARTokenizer.tokens)(small[1], np.zeros((1, 4, 4, 4), np.float32))


def test_only_codes_that_a_batch_does_not_use_are_drawn_anew_from_it(small):
    image = np.random.default_rng(3).uniform(-1, 1, (2, SMALL.window_size, SMALL.window_size, 3)).astype(np.float32)
    f = run(small, VARTokenizer.encode, image)
    codebook = np.asarray(flatten(small[1])["quantizer/codebook"])
    used = np.unique(np.concatenate(run(small, VARTokenizer.tokens, f), axis=1))
    assert 0 < len(used) < len(codebook)
    revived = np.asarray(run(small, VARTokenizer.revived, image, jax.random.key(0)))
    unused = np.setdiff1d(np.arange(len(codebook)), used)
    np.testing.assert_array_equal(revived[used], codebook[used])
    assert (revived[unused] != codebook[unused]).any(axis=1).all()
    coarsest = np.asarray(f).mean(axis=(1, 2))
    nearest = np.abs(revived[unused][:, None] - coarsest).max(axis=-1).min()
    assert len(np.unique(revived[unused], axis=0)) > 1 or nearest < 1e-5
