"""Attention against a loop over queries, by blocks against at once; the block-causal form against its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops import attention as module
from vdiffsr_jax.ops.attention import attention, l2_normalize, level_causal_attention, query_block, use_cudnn
from vdiffsr_jax.ops.window import shift_mask, window_attention


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


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def levels(q, k, v):
    return level_causal_attention(q, k, v, level_sizes=(1, 4, 9, 16), scale=0.7)


def swin(shift: int, side: int = 8):
    mask = shift_mask(8, 8, 4, shift) if shift else None

    def apply(q, k, v, bias):
        return window_attention(q, k, v, bias, window=4, mask=mask)

    return apply, [normal(0, 2, 8, 8, 6), normal(1, 2, side, side, 6), normal(2, 2, side, side, 6)]


# Every mask and bias that the networks ask for.
SERVED = {
    "first stage": (lambda q, k, v: attention(q, k, v, scale=0.3), [normal(i, 2, 13, 1, 8) for i in range(3)]),
    "levels of VAR": (levels, [normal(i, 2, 30, 3, 4) for i in range(3)]),
    "window": (swin(0)[0], [*swin(0)[1], normal(3, 2, 16, 16)]),
    "shifted window": (swin(2)[0], [*swin(2)[1], normal(3, 2, 16, 16)]),
    "window of a coarser level": (swin(0)[0], [*swin(0, 4)[1], normal(3, 2, 16, 4)]),
    "all levels": (
        lambda q, k, v, bias: attention(q, k, v, scale=0.5, bias=bias),
        [normal(0, 2, 13, 3, 4), normal(1, 2, 7, 3, 4), normal(2, 2, 7, 3, 4), normal(3, 2, 3, 1, 7)],
    ),
}


@pytest.mark.parametrize("name", SERVED)
def test_blocks_of_queries_change_rounding_only(monkeypatch: pytest.MonkeyPatch, name: str):
    function, operands = SERVED[name]

    def value_and_gradients():
        def scalar(*operands):
            return jnp.sin(function(*operands)).sum()

        return jax.jit(function)(*operands), jax.jit(jax.grad(scalar, tuple(range(len(operands)))))(*operands)

    whole = value_and_gradients()
    jax.clear_caches()
    monkeypatch.setattr(module, "MAX_LOGITS", 5)  # a query at a time, or a few
    split = jax.make_jaxpr(function)(*operands)
    assert "scan" in str(split)
    for a, b in zip(jax.tree.leaves(value_and_gradients()), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)  # measured 5e-7
    jax.clear_caches()


def test_blocks_are_about_equally_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_LOGITS", 1000)
    assert [query_block(n, 100) for n in (1, 10, 11, 25)] == [1, 10, 6, 9]
    assert query_block(4, 5000) == 1


def test_cudnn_takes_half_precision_without_bias_on_a_gpu():
    q = jnp.zeros((2, 5, 3, 64), jnp.bfloat16)
    bias = jnp.zeros((1, 3, 1, 5))
    assert use_cudnn("gpu", q, None)
    refused = [("cpu", q, None), ("tpu", q, None), ("gpu", q.astype(jnp.float32), None), ("gpu", q, bias)]
    refused += [("gpu", jnp.zeros((2, 5, 1, 512), jnp.bfloat16), None), ("gpu", q[None], None)]
    assert not any(use_cudnn(*case) for case in refused)
