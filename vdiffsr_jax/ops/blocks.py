"""Long products one block after the other, so that what stands between them stays in the fast memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def block_length(n: int, each: int, most: int) -> int:
    """How many of `n` rows of `each` numbers make a block of at most `most`; all blocks are about equally long."""
    rows = max(most // each, 1)
    return -(-n // -(-n // rows))


def split(x: jax.Array, axis: int, block: int) -> jax.Array:
    """(..., n, ...) -> (blocks, ..., block, ...), n being `axis`, negative.

    The last block is filled up with the last row again, which nobody reads.
    """
    n = x.shape[axis]
    axis, count = axis % x.ndim, -(-n // block)
    # Not jnp.pad: its empty pieces along the other axes are what the conversion to ONNX cannot read.
    x = jnp.concatenate([x, *[jax.lax.slice_in_dim(x, n - 1, n, axis=axis)] * (count * block - n)], axis)
    return jnp.moveaxis(x.reshape(*x.shape[:axis], count, block, *x.shape[axis + 1 :]), axis, 0)


def join(x: jax.Array, axis: int, n: int) -> jax.Array:
    """The way back, (blocks, ..., block, ...) -> (..., n, ...)."""
    axis %= x.ndim
    x = jnp.moveaxis(x, 0, axis - 1)
    return jax.lax.slice_in_dim(x.reshape(*x.shape[: axis - 1], -1, *x.shape[axis + 1 :]), 0, n, axis=axis - 1)
