"""2-D convolution, NHWC x HWIO."""

from __future__ import annotations

import jax
from jax import lax

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, *, stride: int = 1, padding: Padding, groups: int = 1
) -> jax.Array:
    """y = x * kernel + bias.

    Args: x: (b, h, w, c). kernel: (kh, kw, c / groups, o). bias: (o,) or None. padding: ((top, bottom), (left, right)).
    """
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)
