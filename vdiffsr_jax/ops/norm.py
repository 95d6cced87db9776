"""Normalisations with statistics in float32, two-pass variance (the fast one loses the last digits)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def group_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, *, num_groups: int, eps: float) -> jax.Array:
    """(x - mean) / sqrt(var + eps) * scale + bias over each group of channels of one sample.

    Args: x: (b, ..., c) with c divisible by `num_groups`. scale, bias: (c,).
    Returns: float32, the shape of x.
    Source: Group Normalization (arXiv:1803.08494), eq. 7.
    """
    b, c = x.shape[0], x.shape[-1]
    grouped = x.astype(jnp.float32).reshape(b, -1, num_groups, c // num_groups)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    var = jnp.square(grouped - mean).mean(axis=(1, 3), keepdims=True)
    # Folding (mean, var, scale, bias) into one multiply-add per element keeps this a single pass over memory.
    gain = jax.lax.rsqrt(var + eps) * scale.reshape(1, 1, num_groups, -1)
    offset = bias.reshape(1, 1, num_groups, -1) - mean * gain
    return (grouped * gain + offset).reshape(x.shape)


def layer_norm(x: jax.Array, *, eps: float) -> jax.Array:
    """(x - mean) / sqrt(var + eps) over the last axis, in float32.

    Source: Layer Normalization (arXiv:1607.06450), eq. 4.
    """
    x = x.astype(jnp.float32)
    mean = x.mean(axis=-1, keepdims=True)
    var = jnp.square(x - mean).mean(axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + eps)
