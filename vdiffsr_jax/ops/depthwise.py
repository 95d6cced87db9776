"""Depthwise convolution as shifted multiply-adds.

One channel in, one channel out leaves a matrix unit idle and takes XLA's slow grouped path on a CPU (measured there,
64x64x160, 3x3: 17.8 ms as a grouped convolution, 0.2 ms here); as k*k elementwise terms it is one pass over memory.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from vdiffsr_jax.ops.conv import Padding


def depthwise_conv2d(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns 1 channels"],
    bias: Float[Array, " channels"] | None,
    *,
    stride: int,
    padding: Padding,
) -> Float[Array, "batch new_height new_width channels"]:
    """y[..., c] = x[..., c] * kernel[..., 0, c] + bias[c].

    Args: padding: ((top, bottom), (left, right)).
    """
    kh, kw = kernel.shape[:2]
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = (padded.shape[1] - kh) // stride + 1
    cols = (padded.shape[2] - kw) // stride + 1
    y = jnp.zeros((), x.dtype) if bias is None else bias.reshape(1, 1, 1, -1)
    for i in range(kh):
        for j in range(kw):
            shifted = padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (cols - 1) + 1 : stride]
            y = y + shifted * kernel[i, j].reshape(1, 1, 1, -1)
    return y
