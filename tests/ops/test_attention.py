"""Attention against a loop over queries; the block-causal form against its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops import attention as module
from vdiffsr_jax.ops.attention import attention, l2_normalize, level_causal_attention


def by_hand(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, allowed: np.ndarray) -> np.ndarray:
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    out = np.zeros(q.shape)
    for b, n, h in np.ndindex(*q.shape[:3]):
        logits = scale * k[b, allowed[n], h] @ q[b, n, h]
        weights = np.exp(logits - logits.max())
        out[b, n, h] = weights @ v[b, allowed[n], h] / weights.sum()
    return out


def qkv(n: int) -> list[np.ndarray]:
    return [np.asarray(jax.random.normal(jax.random.key(i), (2, n, 3, 4))) for i in range(3)]


def test_attention_is_softmax_of_scaled_products():
    q, k, v = qkv(7)
    mask = np.tri(7, dtype=bool)
    got = attention(*map(jnp.asarray, (q, k, v)), scale=0.3, mask=jnp.asarray(mask))
    np.testing.assert_allclose(got, by_hand(q, k, v, 0.3, mask), atol=2e-6)  # measured 2e-7


@pytest.mark.parametrize("min_span", [1, 6, 10_000], ids=["level by level", "spans", "one masked product"])
def test_a_token_sees_its_own_and_coarser_levels(monkeypatch: pytest.MonkeyPatch, min_span: int):
    monkeypatch.setattr(module, "MIN_SPAN", min_span)
    sizes = (1, 4, 9, 16)
    q, k, v = qkv(sum(sizes))
    level = np.repeat(np.arange(4), sizes)
    got = level_causal_attention(*map(jnp.asarray, (q, k, v)), level_sizes=sizes, scale=0.7)
    np.testing.assert_allclose(got, by_hand(q, k, v, 0.7, level[:, None] >= level[None]), atol=2e-6)  # measured 4e-7


def test_levels_must_fill_the_tokens():
    q, k, v = map(jnp.asarray, qkv(5))
    with pytest.raises(ValueError, match=r"5 tokens do not fill levels of \(1, 9\) tokens"):
        level_causal_attention(q, k, v, level_sizes=(1, 9))


def test_l2_normalize_survives_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(l2_normalize(x), [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)
    assert np.isfinite(jax.grad(lambda a: l2_normalize(a).sum())(x)).all()
