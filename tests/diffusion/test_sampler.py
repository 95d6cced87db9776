"""Samplers against the same equations unrolled by hand, with denoisers simple enough to follow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.config import ScheduleConfig
from vdiffsr_jax.diffusion import resshift, sampler, schedule

MADE = schedule.make(ScheduleConfig(), respace=4)
Z_Y, NOISE = (jax.random.normal(jax.random.key(s), (2, 4, 4, 3)) for s in (1, 2))
STEP_NOISE = jax.random.normal(jax.random.key(3), (4, 2, 4, 4, 3))


def told(x: jax.Array, t: jax.Array) -> jax.Array:
    """A denoiser whose answer shows what it was given."""
    return 0.5 * x + 0.01 * t.reshape(-1, 1, 1, 1).astype(x.dtype)


def unrolled(step):
    z = resshift.prior_sample(Z_Y, MADE.sqrt_eta[-1], NOISE, kappa=MADE.kappa)
    zs, z_0s = [], []
    for s, t in enumerate(reversed(range(MADE.num_steps))):
        z_0 = told(z / float(MADE.input_std[t]), jnp.full(2, MADE.timestep_map[t]))
        z = step(s, t, z, z_0)
        zs.append(z)
        z_0s.append(z_0)
    return jnp.stack(zs), jnp.stack(z_0s)


def ancestral(s, t, z, z_0):
    mean = float(MADE.posterior_z_t[t]) * z + float(MADE.posterior_z_0[t]) * z_0
    return mean + (float(np.sqrt(MADE.posterior_variance[t])) * STEP_NOISE[s] if t else 0)


def deterministic(s, t, z, z_0):
    return float(MADE.k[t]) * z_0 + float(MADE.m[t]) * z + float(MADE.j[t]) * Z_Y


def traced(rule: sampler.Rule) -> sampler.Trajectory:
    return sampler.chain(told, MADE, Z_Y, NOISE, rule, keep=True)[1]


def test_ancestral_chain():
    zs, z_0s = unrolled(ancestral)
    trace = traced(sampler.ancestral(MADE, Z_Y, STEP_NOISE))
    np.testing.assert_allclose(trace.z, zs, atol=1e-6)  # measured 2e-7
    np.testing.assert_allclose(trace.z_0, z_0s, atol=1e-6)
    np.testing.assert_array_equal(sampler.sample_ancestral(told, MADE, Z_Y, NOISE, STEP_NOISE), trace.z[-1])


def test_deterministic_chain():
    zs, z_0s = unrolled(deterministic)
    trace = traced(sampler.deterministic(MADE, Z_Y))
    np.testing.assert_allclose(trace.z, zs, atol=1e-6)  # measured 2e-7
    np.testing.assert_allclose(trace.z_0, z_0s, atol=1e-6)
    np.testing.assert_array_equal(sampler.sample_deterministic(told, MADE, Z_Y, NOISE), trace.z[-1])


def test_last_step_of_both_chains_is_the_prediction():
    for trace in (
        traced(sampler.ancestral(MADE, Z_Y, STEP_NOISE)),
        traced(sampler.deterministic(MADE, Z_Y)),
    ):
        np.testing.assert_allclose(trace.z[-1], trace.z_0[-1], atol=1e-7)


def test_one_step_tells_the_network_the_last_step():
    made = schedule.make(ScheduleConfig())
    z_T = Z_Y + 2 * 0.99 * NOISE
    expected = 0.5 * z_T / float(made.input_std[14]) + 0.14
    np.testing.assert_allclose(sampler.sample_one_step(told, made, Z_Y, NOISE), expected, atol=1e-6)


def test_inverse_prediction_is_asked_at_zero_but_scaled_as_at_the_end():
    made = schedule.make(ScheduleConfig())
    expected = 0.5 * Z_Y / float(np.sqrt(made.eta[14] * 4 + 1))
    np.testing.assert_allclose(sampler.predict_z_T(told, made, Z_Y), expected, atol=1e-6)


def test_step_noise_from_a_key_is_drawn_once_per_step():
    key = jax.random.key(7)
    drawn = jnp.stack([jax.random.normal(jax.random.fold_in(key, s), Z_Y.shape) for s in range(4)])
    by_key = sampler.sample_ancestral(told, MADE, Z_Y, NOISE, key)
    np.testing.assert_allclose(by_key, sampler.sample_ancestral(told, MADE, Z_Y, NOISE, drawn), atol=1e-6)
    assert jnp.abs(by_key - sampler.sample_ancestral(told, MADE, Z_Y, NOISE, jax.random.key(8))).max() > 1e-3


@pytest.mark.parametrize("wrong", [STEP_NOISE[:3], jnp.zeros((4, 2, 4, 4, 1)), jax.random.split(jax.random.key(0))])
def test_step_noise_of_the_wrong_shape_is_refused(wrong: jax.Array):
    with pytest.raises(ValueError, match=r"must be \(4, 2, 4, 4, 3\), one noise per step, or a key"):
        sampler.sample_ancestral(told, MADE, Z_Y, NOISE, wrong)


def test_a_bfloat16_denoiser_leaves_the_chain_in_float32():
    low = sampler.sample_deterministic(lambda x, t: told(x, t).astype(jnp.bfloat16), MADE, Z_Y, NOISE)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, sampler.sample_deterministic(told, MADE, Z_Y, NOISE), atol=2e-2)
