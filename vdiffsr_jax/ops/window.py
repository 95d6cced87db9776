"""Attention inside square windows of a map (Swin Transformer, arXiv:2103.14030, sec. 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def check_divides(h: int, w: int, window: int) -> None:
    """Raise ValueError if a map of h x w cannot be cut into windows."""
    if h % window or w % window:
        raise ValueError(
            f"a feature map of {h}x{w} does not divide into windows of {window}x{window}; "
            f"pad the input so that every level is a multiple of its window"
        )


def shift_mask(h: int, w: int, window: int, shift: int) -> np.ndarray:
    """Mask of the cyclically shifted map's windows, as the published UNets were trained with it.

    It is not Swin's own. Only the bottom row of windows is masked, where two pixels attend to each other if both or
    neither of their COLUMNS within the window lie past window - shift: regions are numbered by image row, but every
    window reads its part transposed. Weights trained with this mask need this mask.

    Returns: (h w / window^2, window^2, window^2), windows row by row, 0 where attention is allowed, -100 elsewhere.
    Raises: ValueError if the map does not divide into windows.
    """
    check_divides(h, w, window)
    row_region = np.searchsorted([h - window, h - shift], np.arange(h), side="right").reshape(h // window, 1, 1, window)
    region = np.broadcast_to(row_region, (h // window, w // window, window, window)).reshape(-1, window * window)
    return np.where(region[:, :, None] == region[:, None, :], 0.0, -100.0).astype(np.float32)


def relative_position_index(window: int) -> np.ndarray:
    """Row of the bias table for each query and key, (dy + window - 1) (2 window - 1) + dx + window - 1: (n, n)."""
    y, x = np.divmod(np.arange(window * window), window)
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def relative_position_bias(table: jax.Array, window: int) -> jax.Array:
    """Bias of every pair of pixels in a window: ((2 window - 1)^2, k) -> (k, window^2, window^2) float32."""
    return jnp.moveaxis(table.astype(jnp.float32)[relative_position_index(window)], -1, 0)


def window_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, *, window: int, mask: np.ndarray | None = None
) -> jax.Array:
    """softmax(q k^T / sqrt(d) + bias + mask) v within each window, the softmax in float32.

    Args: q, k, v: (b, h, w, heads * d). bias: (heads, window^2, window^2). mask: as `shift_mask` gives.
    Returns: (b, h, w, heads * d).
    Raises: ValueError if the map does not divide into windows.
    Source: Swin Transformer, eq. 4.
    """
    b, h, w, width = q.shape
    check_divides(h, w, window)
    heads, rows, cols = bias.shape[0], h // window, w // window
    d = width // heads

    def split(x: jax.Array) -> jax.Array:
        x = x.reshape(b, rows, window, cols, window, heads, d).transpose(0, 1, 3, 5, 2, 4, 6)
        return x.reshape(b, rows * cols, heads, window * window, d)

    logits = jnp.einsum("bwknd,bwkmd->bwknm", split(q) * d**-0.5, split(k), preferred_element_type=jnp.float32)
    logits = logits + bias[None, None]
    if mask is not None:
        logits = logits + mask[None, :, None]
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    y = jnp.einsum("bwknm,bwkmd->bwknd", weights, split(v))
    y = y.reshape(b, rows, cols, heads, window, window, d).transpose(0, 1, 4, 2, 5, 3, 6)
    return y.reshape(b, h, w, width)
