from __future__ import annotations

import jax
import numpy as np
import pytest
from jax import lax

from vdiffsr_jax.ops.depthwise import depthwise_conv2d


@pytest.mark.parametrize(("stride", "padding"), [(1, ((1, 1), (1, 1))), (2, ((0, 1), (1, 0))), (2, ((2, 2), (0, 0)))])
def test_equals_a_grouped_convolution(stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 11, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 5))
    bias = jax.random.normal(jax.random.key(2), (5,))
    want = lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=5
    )
    got = depthwise_conv2d(x, kernel, bias, stride=stride, padding=padding)
    np.testing.assert_allclose(got, want + bias.reshape(1, 1, 1, -1), atol=2e-6)
