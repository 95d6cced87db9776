"""Rows in blocks, and back."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.ops.blocks import block_length, join, split


def test_blocks_are_about_equally_long():
    assert [block_length(n, 100, 1000) for n in (1, 10, 11, 25)] == [1, 10, 6, 9]
    assert block_length(4, 5000, 1000) == 1


def test_blocks_in_order_are_the_rows():
    x = jnp.arange(2 * 7 * 3).reshape(2, 7, 3)
    blocks = split(x, -2, 3)
    assert blocks.shape == (3, 2, 3, 3)
    np.testing.assert_array_equal(join(blocks, -2, 7), x)
    back = np.moveaxis(blocks, 0, 1).reshape(2, 9, 3)
    np.testing.assert_array_equal(back[:, :7], x)
    np.testing.assert_array_equal(back[:, 7:], x[:, 6:7].repeat(2, axis=1))
