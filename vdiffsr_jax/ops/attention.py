"""Multi-head attention with softmax in float32, and its block-causal form over the levels of a token pyramid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Consecutive levels share one masked product until they hold this many queries: tiny products cost more than a mask.
MIN_SPAN = 128


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float = 1.0, mask: jax.Array | None = None
) -> jax.Array:
    """softmax(scale q k^T) v per head.

    Args: q: (b, n, heads, d). k, v: (b, m, heads, d). mask: (n, m) bool, True where the query may look, or None.
    Returns: (b, n, heads, d) in the dtype of v; every query must be allowed at least one key.
    Source: Attention Is All You Need (arXiv:1706.03762), eq. 1.
    """
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32) * scale
    if mask is not None:
        logits = jnp.where(mask[None, None], logits, -jnp.inf)
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)


def level_causal_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, *, level_sizes: Sequence[int], scale: float = 1.0
) -> jax.Array:
    """Attention in which a token sees every token of its own level and of all coarser ones.

    Each span of levels is one product with the keys up to its own end, so keys that nobody may see are not multiplied;
    a mask is needed, and computed, only inside a span of several levels.

    Args: q, k, v: (b, n, heads, d), levels coarse to fine along n. level_sizes: tokens per level, summing to n.
    Returns: (b, n, heads, d).
    Source: Visual Autoregressive Modeling (arXiv:2404.02905), section 3.2 (block-wise causal mask).
    """
    if sum(level_sizes) != q.shape[1]:
        raise ValueError(f"{q.shape[1]} tokens do not fill levels of {tuple(level_sizes)} tokens")
    level = np.repeat(np.arange(len(level_sizes)), level_sizes)
    parts = []
    for start, end in itertools.pairwise(_span_edges(level_sizes)):
        mask = None
        if level[start] != level[end - 1]:
            mask = jnp.asarray(level[start:end])[:, None] >= jnp.asarray(level[:end])[None, :]
        parts.append(attention(q[:, start:end], k[:, :end], v[:, :end], scale=scale, mask=mask))
    return jnp.concatenate(parts, axis=1)


def l2_normalize(x: jax.Array, *, eps: float = 1e-12) -> jax.Array:
    """x / max(|x|, eps) over the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), eps**2))


def _span_edges(level_sizes: Sequence[int]) -> list[int]:
    edges = [0]
    for end in itertools.accumulate(level_sizes):
        if end - edges[-1] >= MIN_SPAN:
            edges.append(end)
    total = sum(level_sizes)
    return edges if edges[-1] == total else [*edges, total]
