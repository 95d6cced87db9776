"""2-D convolution, NHWC x HWIO, and the one that follows a nearest-neighbour x2 enlargement."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels out"],
    bias: Float[Array, " out"] | None,
    *,
    stride: int = 1,
    padding: Padding,
) -> Float[Array, "batch new_height new_width out"]:
    """y = x * kernel + bias.

    Args: padding: ((top, bottom), (left, right)).
    """
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def upsample2x_conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "3 3 channels out"],
    bias: Float[Array, " out"] | None,
) -> Float[Array, "batch 2*height 2*width out"]:
    """3x3 convolution (padding 1) of x enlarged to nearest x2, without ever making the enlarged map.

    Every 2x2 block of the result sees only 2x2 pixels of x, so one 2x2 convolution gives all four of its pixels as
    channels: 4/9 of the products.

    Args: kernel: at least as precise as x.
    Returns: in the dtype of x.
    """
    b, h, w, _ = x.shape
    phases = [columns for rows in _fold_taps(kernel, 0) for columns in _fold_taps(rows, 1)]
    # Padded beforehand: with padding inside, XLA's CPU backend takes 100 times longer for the kernel's gradient.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = conv2d(padded, jnp.concatenate(phases, axis=-1).astype(x.dtype), None, padding=((0, 0), (0, 0)))
    top_left, top_right, low_left, low_right = jnp.split(y, 4, axis=-1)
    top = jnp.stack([top_left[:, :h, :w], top_right[:, :h, 1:]], axis=3)
    low = jnp.stack([low_left[:, 1:, :w], low_right[:, 1:, 1:]], axis=3)
    result = jnp.stack([top, low], axis=2).reshape(b, 2 * h, 2 * w, -1)
    return result if bias is None else result + bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _fold_taps(kernel: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """What three taps over doubled pixels are on the pixels themselves, for even and odd positions."""
    before, here, after = jnp.split(kernel, 3, axis=axis)
    return jnp.concatenate([before, here + after], axis=axis), jnp.concatenate([before + here, after], axis=axis)
