from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops.conv import conv2d, upsample2x_conv2d

SHAPES = ((2, 5, 3, 4), (3, 3, 4, 6), (6,))


def enlarge_then_convolve(x, kernel, bias):
    return conv2d(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), kernel, bias, padding=((1, 1), (1, 1)))


def arguments():
    return [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(SHAPES)]


def test_upsample2x_conv2d_is_enlarging_then_convolving():
    args = arguments()
    fast, plain = jax.jit(upsample2x_conv2d), jax.jit(enlarge_then_convolve)
    np.testing.assert_allclose(fast(*args), plain(*args), atol=1e-5)
    kernel_only = (*args[:2], None)
    np.testing.assert_allclose(fast(*kernel_only), plain(*kernel_only), atol=1e-5)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_upsample2x_conv2d_has_the_same_gradient(argument):
    args = arguments()
    got, want = (
        jax.jit(jax.grad(lambda *a, f=f: jnp.sin(f(*a)).sum(), argnums=argument))(*args)
        for f in (upsample2x_conv2d, enlarge_then_convolve)
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-4)


def test_upsample2x_conv2d_keeps_the_dtype_of_x():
    x, kernel, bias = arguments()
    y = jax.jit(upsample2x_conv2d)(x.astype(jnp.bfloat16), kernel, bias)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), enlarge_then_convolve(x, kernel, bias), atol=0.2)
