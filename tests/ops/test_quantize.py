"""Nearest codes against brute force, and which way gradients go."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops import quantize
from vdiffsr_jax.ops.quantize import codebook_usage, nearest_code, straight_through, vq_loss

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("most", [2**21, 350, 1])  # in one block, in blocks of seven, the last filled up, one by one
def test_nearest_code_is_brute_force(monkeypatch: pytest.MonkeyPatch, most: int):
    monkeypatch.setattr(quantize, "MAX_DISTANCES", most)
    z, codes = (RNG.normal(size=shape).astype(np.float32) for shape in ((2, 9, 10, 3), (50, 3)))
    want = np.square(z[..., None, :].astype(np.float64) - codes).sum(-1).argmin(-1)
    got = nearest_code(z, codes)
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(got, want)


def test_the_first_of_equal_codes_wins():
    codes = np.array([[3.0], [1.0], [1.0], [1.0]], np.float32)
    assert nearest_code(np.array([[0.9]], np.float32), codes)[0] == 1


def test_a_vector_that_is_not_a_number_has_a_code_too():
    assert nearest_code(np.array([[np.nan]], np.float32), np.ones((4, 1), np.float32))[0] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_code_that_is_not_finite_is_told_by_what_it_stands_for(value: float):
    codes = np.arange(64, dtype=np.float32)[:, None].repeat(3, axis=1)
    codes[40, 1] = value
    assert (nearest_code(np.random.default_rng(0).normal(size=(1, 16, 16, 3)), codes) == 40).all()


def test_straight_through_has_the_codes_value_and_the_latents_gradient():
    z, z_q = jnp.array([0.3, -0.7]), jnp.array([1.0, -1.0])
    np.testing.assert_array_equal(straight_through(z, z_q), z_q)
    to_z, to_code = jax.grad(lambda z, z_q: (straight_through(z, z_q) * jnp.array([2.0, 5.0])).sum(), (0, 1))(z, z_q)
    np.testing.assert_array_equal(to_z, [2.0, 5.0])
    np.testing.assert_array_equal(to_code, [0.0, 0.0])


def test_each_loss_term_moves_its_own_side():
    z, z_q = jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])
    loss, (to_z, to_code) = jax.value_and_grad(
        lambda z, z_q: vq_loss(z, z_q, commitment=1.0, codebook=0.25), argnums=(0, 1)
    )(z, z_q)
    assert loss == 1.25 * 2.5
    np.testing.assert_allclose(to_z, z - z_q)  # d/dz mean over two = (z - z_q)
    np.testing.assert_allclose(to_code, 0.25 * (z_q - z))


def test_usage_counts_distinct_codes_and_their_evenness():
    usage = jax.jit(codebook_usage, static_argnums=1)
    even = usage(jnp.array([[0, 1], [2, 3]]), 8)
    np.testing.assert_allclose([even["codes_used"], even["perplexity"]], [4, 4], rtol=1e-6)
    one = usage(jnp.array([5, 5, 5]), 8)
    np.testing.assert_allclose([one["codes_used"], one["perplexity"]], [1, 1], rtol=1e-6)
