"""Noise as one field over a whole photo, of which every tile draws its part where it is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, UInt32


def field_key(seed: int) -> UInt32[np.ndarray, " 2"]:
    """What stands for a seed, any whole number modulo 2^64."""
    return np.array(divmod(seed % 2**64, 2**32), np.uint32)


def noise_at(
    key: UInt32[Array, " 2"], origins: Int32[Array, "batch 2"], *, fields: int, side: int, channels: int
) -> Float32[Array, "batch {fields} {side} {side} {channels}"]:
    """Standard normal noise of tiles, a function of (key, field, y, x, channel) alone.

    Tiles that overlap agree, whatever their size, batch or device: the counter of Threefry is the pixel's own place.

    Args: key: see `field_key`. origins: (top, left) of each tile in the photo.
    Source: Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., SC 2011), counter-based generators.
    """
    root = jax.random.wrap_key_data(key, impl="threefry2x32")

    def pixel(row: jax.Array, x: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(row, x), (channels,))

    def row(field: jax.Array, y: jax.Array, columns: jax.Array) -> jax.Array:
        return jax.vmap(pixel, (None, 0))(jax.random.fold_in(field, y), columns)

    def tile(origin: jax.Array, field: jax.Array) -> jax.Array:
        along = jnp.arange(side, dtype=jnp.int32)
        rows = jax.vmap(row, (None, 0, None))
        return rows(jax.random.fold_in(root, field), origin[0] + along, origin[1] + along)

    over_fields = jax.vmap(tile, (None, 0))
    return jax.vmap(over_fields, (0, None))(origins, jnp.arange(fields))
