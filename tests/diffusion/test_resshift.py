"""Each equation with small numbers, and the refusals."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.config import ScheduleConfig
from vdiffsr_jax.diffusion import resshift, schedule

ONES = jnp.ones((2, 1, 1, 1))


def values(z) -> list[float]:
    return np.asarray(z).ravel().tolist()


def test_q_sample_with_one_coefficient_per_sample():
    # 3 + eta (5 - 3) + 2 sqrt(eta) 1
    z_t = resshift.q_sample(3 * ONES, 5 * ONES, np.array([0.5, 1.0]), ONES, kappa=2.0)
    assert values(z_t) == [3 + 0.25 * 2 + 1, 3 + 2 + 2]


def test_prior_sample_does_not_shift():
    assert values(resshift.prior_sample(5 * ONES, 0.5, 3 * ONES, kappa=2.0)) == [5 + 2 * 0.5 * 3] * 2


def test_scale_input_divides():
    assert values(resshift.scale_input(6 * ONES, np.array([2.0, 4.0]))) == [3, 1.5]


def test_posterior_and_ancestral_step():
    mean = resshift.posterior_mean(2 * ONES, 10 * ONES, 0.75, 0.25)
    assert values(mean) == [4, 4]
    step = resshift.ancestral_step(mean, 2 * np.log(3.0), jnp.array([1.0, 0.0]).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(values(step), [7, 4], rtol=1e-6)


def test_deterministic_step():
    coefficients = {"k": 0.5, "m": 0.25, "j": np.array([1.0, 2.0])}
    z_prev = resshift.deterministic_step(4 * ONES, 2 * ONES, 3 * ONES, **coefficients)
    assert values(z_prev) == [1 + 1 + 3, 1 + 1 + 6]


def test_deterministic_step_keeps_the_marginal():
    """From z_t = q_sample(z_0, eta_t) with the true z_0 it lands on q_sample(z_0, eta_{t-1}) with the same noise."""
    made = schedule.make(ScheduleConfig())
    z_0, z_y, noise = (jnp.asarray(np.random.default_rng(s).normal(size=(2, 3, 3, 1)), jnp.float32) for s in range(3))
    for t in (1, 7, 14):
        z_t, z_prev = (resshift.q_sample(z_0, z_y, made.sqrt_eta[s], noise, kappa=made.kappa) for s in (t, t - 1))
        stepped = resshift.deterministic_step(z_t, z_0, z_y, made.k[t], made.m[t], made.j[t])
        np.testing.assert_allclose(stepped, z_prev, atol=2e-6)  # measured 4e-7


def test_posterior_mean_of_the_true_z_0_keeps_the_shift():
    """Without noise, z_t = z_0 + eta_t e leads to z_0 + eta_{t-1} e."""
    made = schedule.make(ScheduleConfig())
    t = 7
    z_t = resshift.q_sample(3 * ONES, 5 * ONES, made.sqrt_eta[t], 0 * ONES, kappa=made.kappa)
    mean = resshift.posterior_mean(z_t, 3 * ONES, made.posterior_z_t[t], made.posterior_z_0[t])
    np.testing.assert_allclose(values(mean), [3 + 2 * made.eta[t - 1]] * 2, rtol=1e-6)


def test_latents_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"latents differ in shape: \(2, 1, 1, 1\), \(2, 1, 1, 1\), \(2, 1, 1, 2\)"):
        resshift.q_sample(ONES, ONES, 0.5, jnp.ones((2, 1, 1, 2)), kappa=2.0)


def test_a_coefficient_per_pixel_is_refused():
    with pytest.raises(ValueError, match=r"a coefficient is \(\) or \(b,\), not \(2, 2\)"):
        resshift.scale_input(ONES, np.ones((2, 2)))
