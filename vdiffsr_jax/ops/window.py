"""Attention inside square windows of a map (Swin Transformer, arXiv:2103.14030, sec. 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from vdiffsr_jax.ops.attention import attention


def check_divides(h: int, w: int, window: int) -> None:
    """Raise ValueError if a map of h x w cannot be cut into windows."""
    if h % window or w % window:
        raise ValueError(
            f"a feature map of {h}x{w} does not divide into windows of {window}x{window}; "
            f"pad the input so that every level is a multiple of its window"
        )


def shift_mask(
    h: int, w: int, window: int, shift: int
) -> Float32[np.ndarray, "{h}*{w}//{window}**2 {window}**2 {window}**2"]:
    """Mask of the cyclically shifted map's windows, as the published UNets were trained with it.

    It is not Swin's own. Only the bottom row of windows is masked, where two pixels attend to each other if both or
    neither of their COLUMNS within the window lie past window - shift: regions are numbered by image row, but every
    window reads its part transposed. Weights trained with this mask need this mask.

    Returns: of the windows row by row, 0 where attention is allowed, -100 elsewhere.
    Raises: ValueError if the map does not divide into windows.
    """
    check_divides(h, w, window)
    row_region = np.searchsorted([h - window, h - shift], np.arange(h), side="right").reshape(h // window, 1, 1, window)
    region = np.broadcast_to(row_region, (h // window, w // window, window, window)).reshape(-1, window * window)
    return np.where(region[:, :, None] == region[:, None, :], 0.0, -100.0).astype(np.float32)


def relative_position_index(window: int, queries: int = 0) -> Int[np.ndarray, "queries {window}**2"]:
    """Row of the bias table for each query and key, (dy + window - 1) (2 window - 1) + dx + window - 1.

    Keys are the window x window cells. Queries stand in the same area, `queries` a side (0: one in each cell), and
    count from the cell they lie in.
    """
    queries = queries or window
    y, x = np.divmod(np.arange(window * window), window)
    cell = ((np.arange(queries) + 0.5) * window / queries).astype(int)
    a, b = np.repeat(cell, queries), np.tile(cell, queries)
    dy, dx = a[:, None] - y[None, :], b[:, None] - x[None, :]
    index: np.ndarray = (dy + window - 1) * (2 * window - 1) + dx + window - 1
    return index


def relative_position_bias(
    table: Float[Array, "(2*{window}-1)**2 heads"], window: int, queries: int = 0
) -> Float32[Array, "heads queries {window}**2"]:
    """Bias of every query and key of a window, see `relative_position_index`."""
    return jnp.moveaxis(table.astype(jnp.float32)[relative_position_index(window, queries)], -1, 0)


def window_attention(
    q: Float[Array, "batch height width channels"],
    k: Float[Array, "batch key_height key_width channels"],
    v: Float[Array, "batch key_height key_width channels"],
    bias: Float[Array, "heads {window}**2 keys"],
    *,
    window: int,
    mask: Float[np.ndarray, "windows {window}**2 keys"] | None = None,
) -> Float[Array, "batch height width channels"]:
    """softmax(q k^T / sqrt(d) + bias + mask) v within each window, the softmax in float32.

    Args: q: its channels are those of all heads. k, v: the same, or coarser maps of as many windows, each of `keys`
        cells. window: side of a window of q. mask: as `shift_mask` gives.
    Raises: ValueError if q does not divide into windows or k into as many.
    Source: Swin Transformer, eq. 4.
    """
    b, h, w, width = q.shape
    check_divides(h, w, window)
    heads, rows, cols = bias.shape[0], h // window, w // window
    d = width // heads
    if k.shape[1] % rows or k.shape[2] % cols:
        raise ValueError(f"keys of {k.shape[1]}x{k.shape[2]} do not divide into {rows}x{cols} windows")

    def split(x: jax.Array) -> jax.Array:
        height, breadth = x.shape[1] // rows, x.shape[2] // cols
        x = x.reshape(b, rows, height, cols, breadth, heads, d).transpose(0, 1, 3, 2, 4, 5, 6)
        return x.reshape(b, rows * cols, height * breadth, heads, d)

    total = bias[None, None] if mask is None else bias[None, None] + mask[None, :, None]
    y = attention(split(q), split(k), split(v), scale=d**-0.5, bias=total)
    y = y.reshape(b, rows, cols, window, window, heads, d).transpose(0, 1, 3, 2, 4, 5, 6)
    return y.reshape(b, h, w, width)
