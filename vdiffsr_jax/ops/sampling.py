"""Drawing tokens from logits: top-k, nucleus (top-p), categorical."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, PRNGKeyArray

Logits = Float[Array, "*rows vocab"]


def keep_top_k(logits: Logits, k: int) -> Logits:
    """All but the `k` largest logits of the last axis become -inf; k = 0 keeps everything."""
    if not k:
        return logits
    threshold = jax.lax.top_k(logits, k)[0][..., -1:]
    return jnp.where(logits < threshold, -jnp.inf, logits)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Keep the smallest set of most likely tokens whose probability exceeds `p`; p = 0 keeps everything.

    Source: The Curious Case of Neural Text Degeneration (arXiv:1904.09751), section 3.1.
    """
    if not p:
        return logits
    descending = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
    probability = jax.nn.softmax(descending, axis=-1)
    before = jnp.cumsum(probability, axis=-1) - probability
    threshold = jnp.where(before < p, descending, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(logits < threshold, -jnp.inf, logits)


def sample(key: PRNGKeyArray, logits: Logits, *, top_k: int = 0, top_p: float = 0.0) -> Int32[Array, "*rows"]:
    """One token per row, from softmax(logits) restricted to top-k, then to top-p."""
    return jax.random.categorical(key, keep_top_p(keep_top_k(logits, top_k), top_p), axis=-1).astype(jnp.int32)
