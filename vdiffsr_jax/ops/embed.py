"""Positions as vectors: sinusoids of the diffusion step, 2-D rotary encoding of places in an image."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Real


def timestep_embedding(t: Real[Array, " batch"], dim: int) -> Float32[Array, "batch {dim}"]:
    """[cos(t w_i), sin(t w_i)] with w_i = 10000^(-i / half), i < half = dim // 2, cosines first.

    Args: t: steps, integer or fractional. dim: even.
    Raises: ValueError if `dim` is odd.
    Source: Diffusion Models Beat GANs (arXiv:2105.05233), after Attention Is All You Need (arXiv:1706.03762), sec. 3.5.
    """
    if dim % 2:
        raise ValueError(f"timestep embedding needs an even width, not {dim}")
    half = dim // 2
    frequencies = np.exp(-math.log(10000.0) * np.arange(half, dtype=np.float32) / half).astype(np.float32)
    angles = t.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def grid_centres(size: int) -> Float[np.ndarray, "{size}**2 2"]:
    """Centres ((i + .5) / size, (j + .5) / size) of a size x size grid, row by row, in (0, 1)."""
    ticks = (np.arange(size) + 0.5) / size
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)


def rotary_angles(
    positions: Float[np.ndarray, "places 2"], dim: int, *, finest: int
) -> Float32[np.ndarray, "places {dim}//2"]:
    """Rotation angles of 2-D positions, the first half of them for the row, the second for the column.

    Frequencies are geometric, from pi (half a turn across the window) to pi * `finest` (half a turn between neighbours
    of a grid of that side), so no two places of that grid look alike and a shared place looks the same on every grid.

    Args: positions: in [0, 1]. dim: head width, a multiple of 4. finest: side of the finest key grid.
    Raises: ValueError if `dim` does not divide by 4.
    Source: RoFormer (arXiv:2104.09864), eq. 15, applied per axis.
    """
    if dim % 4:
        raise ValueError(f"2-D rotary encoding needs a width that divides by 4, not {dim}")
    frequencies = np.pi * np.geomspace(1.0, max(finest, 1), dim // 4)
    return (positions[:, :, None] * frequencies[None, None, :]).reshape(len(positions), dim // 2).astype(np.float32)


def rotate(
    x: Float[Array, "*batch places heads dim"], angles: Float[np.ndarray, "places dim//2"]
) -> Float[Array, "*batch places heads dim"]:
    """Rotate the pairs (x_i, x_{i + d/2}) of every head by angles_i, in the dtype of x.

    Source: RoFormer (arXiv:2104.09864), eq. 34.
    """
    shape = (1,) * (x.ndim - 3) + (angles.shape[0], 1, angles.shape[1])
    cos, sin = np.cos(angles).reshape(shape), np.sin(angles).reshape(shape)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)
