from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops.norm import group_norm, layer_norm


def naive(x, scale, bias, num_groups, eps):
    """The equation, letter for letter, in float64."""
    b, h, w, c = x.shape
    groups = np.asarray(x, np.float64).reshape(b, h * w, num_groups, c // num_groups)
    mean = groups.mean(axis=(1, 3), keepdims=True)
    var = groups.var(axis=(1, 3), keepdims=True)
    return ((groups - mean) / np.sqrt(var + eps)).reshape(x.shape) * np.asarray(scale) + np.asarray(bias)


@pytest.mark.parametrize(("c", "num_groups"), [(8, 8), (12, 4)])
def test_group_norm_is_its_equation(c, num_groups):
    keys = jax.random.split(jax.random.key(0), 3)
    x = 3.0 + jax.random.normal(keys[0], (2, 5, 4, c))
    scale, bias = jax.random.normal(keys[1], (c,)), jax.random.normal(keys[2], (c,))
    got = group_norm(x, scale, bias, num_groups=num_groups, eps=1e-6)
    np.testing.assert_allclose(got, naive(x, scale, bias, num_groups, 1e-6), atol=2e-6)


@pytest.mark.parametrize(("c", "num_groups"), [(8, 8), (12, 4)])
def test_group_norm_gradient_is_the_automatic_one(c, num_groups):
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (2, 5, 4, c))
    scale, bias = 1.0 + jax.random.normal(keys[1], (c,)), jax.random.normal(keys[2], (c,))
    cotangent = jax.random.normal(keys[3], x.shape)

    def automatic(x, scale, bias):
        groups = x.reshape(2, 20, num_groups, -1)
        mean = groups.mean(axis=(1, 3), keepdims=True)
        var = jnp.square(groups - mean).mean(axis=(1, 3), keepdims=True)
        normal = ((groups - mean) * jax.lax.rsqrt(var + 1e-6)).reshape(x.shape)
        return normal * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)

    want = jax.vjp(automatic, x, scale, bias)[1](cotangent)
    got = jax.vjp(lambda *a: group_norm(*a, num_groups=num_groups, eps=1e-6), x, scale, bias)[1](cotangent)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, atol=1e-5)


def test_group_norm_and_its_gradient_far_from_zero():
    """Mean 500, std 0.1; deviations from float64 over the largest value: measured 3e-7, with plain x * gain 2e-3."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = 500.0 + 0.1 * jax.random.normal(keys[0], (2, 16, 16, 8))
    scale, bias = 1.0 + 0.1 * jax.random.normal(keys[1], (8,)), jnp.zeros(8)
    dy = jax.random.normal(keys[2], x.shape)
    y, vjp = jax.vjp(lambda *a: group_norm(*a, num_groups=4, eps=1e-6), x, scale, bias)
    dx, d_scale, _ = vjp(dy)

    normal = naive(x, np.ones(8), np.zeros(8), 4, 1e-6)
    groups = np.asarray(x, np.float64).reshape(2, 256, 4, 2)
    std = np.sqrt(groups.var(axis=(1, 3), keepdims=True) + 1e-6)
    inner = (np.asarray(dy, np.float64) * np.asarray(scale)).reshape(groups.shape)
    along = (inner * normal.reshape(groups.shape)).mean(axis=(1, 3), keepdims=True)
    want = (inner - inner.mean(axis=(1, 3), keepdims=True) - normal.reshape(groups.shape) * along) / std
    for got, wanted in (
        (y, normal * np.asarray(scale)),
        (dx, want.reshape(x.shape)),
        (d_scale, (np.asarray(dy) * normal).sum(axis=(0, 1, 2))),
    ):
        assert np.abs(np.asarray(got) - wanted).max() / np.abs(wanted).max() < 2e-6


def test_the_worst_rough_mean_costs_six_bits():
    """It is the first row's, and that is eight standard deviations off: measured 3e-6, otherwise 1e-7."""
    x = jax.random.normal(jax.random.key(0), (2, 64, 16, 8)).at[:, 0].add(1000.0)
    y = group_norm(x, jnp.ones(8), jnp.zeros(8), num_groups=4, eps=1e-6)
    want = naive(x, np.ones(8), np.zeros(8), 4, 1e-6)
    assert np.abs(np.asarray(y) - want).max() / np.abs(want).max() < 1e-5


def test_statistics_are_float32_under_bfloat16():
    x = (100.0 + jax.random.normal(jax.random.key(0), (1, 16, 16, 32))).astype(jnp.bfloat16)
    y = group_norm(x, jnp.ones(32), jnp.zeros(32), num_groups=32, eps=1e-6)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, naive(x, np.ones(32), np.zeros(32), 32, 1e-6), atol=1e-3)


def test_layer_norm_is_its_equation():
    x = 3.0 + jax.random.normal(jax.random.key(0), (2, 7, 16))
    y = np.asarray(x, np.float64)
    want = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(layer_norm(x, eps=1e-6), want, atol=2e-6)
