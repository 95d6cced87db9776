"""Attention against a loop over queries, by blocks against at once; the block-causal form against its definition."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from vdiffsr_jax.ops import attention as module
from vdiffsr_jax.ops.attention import (
    attention,
    cudnn_compiles,
    l2_normalize,
    level_causal_attention,
    suits_cudnn,
)
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


def test_cudnn_is_asked_for_long_half_precision_on_a_gpu():
    def suits(platform: str, dtype: str, *shape: int, keys: int = 680) -> bool:
        q = jax.ShapeDtypeStruct(shape, dtype)
        return suits_cudnn(platform, q, jax.ShapeDtypeStruct((shape[0], keys, *shape[2:]), dtype))

    assert suits("gpu", "bfloat16", 2, 256, 16, 64)
    assert suits("gpu", "float16", 2, 256, 16, 64)
    assert not suits("cpu", "bfloat16", 2, 256, 16, 64)
    assert not suits("tpu", "bfloat16", 2, 256, 16, 64)
    assert not suits("gpu", "float32", 2, 256, 16, 64)
    assert not suits("gpu", "bfloat16", 2, 256, 1, 512)
    assert not suits("gpu", "bfloat16", 2, 256, 1, 60)
    assert not suits("gpu", "bfloat16", 1, 2, 256, 16, 64)
    assert not suits("gpu", "bfloat16", 2, 1, 16, 64)
    assert not suits("gpu", "bfloat16", 2, 169, 16, 64)
    assert not suits("gpu", "bfloat16", 2, 256, 16, 64, keys=425)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Traces choose as they would on a GPU with cuDNN 9.13."""
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91300)
    yield
    jax.clear_caches()
    cudnn_compiles.cache_clear()


LEVELS_D16 = [n * n for n in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)]


def kernels(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> tuple[int, int]:
    """cuDNN's forward and backward kernels in a training step's attention over such levels, lowered for CUDA here."""
    q = jax.ShapeDtypeStruct((4, sum(sizes), 16, 64), jnp.bfloat16)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return level_causal_attention(q, k, v, level_sizes=sizes).astype(jnp.float32).sum()

    monkeypatch.setattr(module, "cudnn_compiles", lambda *_: True)
    text = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, q, q).lower(lowering_platforms=("cuda",)).as_text()
    return text.count("@__cudnn$fmhaSoftmax("), text.count("@__cudnn$fmhaSoftmaxBackward(")


@pytest.mark.usefixtures("a_gpu")
def test_the_levels_of_var_are_trained_on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """155 tokens in the first span and 269 in the second: through cuDNN JAX refuses their gradients."""
    assert kernels(monkeypatch, LEVELS_D16) == (1, 1)
    assert kernels(monkeypatch, [169, 256, 255]) == (0, 0)


@pytest.mark.usefixtures("a_gpu")
def test_where_cudnn_has_no_kernel_attention_is_the_same(caplog: pytest.LogCaptureFixture):
    """This jax has no GPU, so cuDNN's program does not compile: asked once, said once."""
    q, k, v = (normal(i, 2, 64, 3, 8).astype(jnp.bfloat16) for i in range(3))
    got = jax.jit(attention)(q, k, v)
    want = by_hand(*(np.asarray(x, np.float32) for x in (q, k, v)), 1.0, np.ones((64, 64), bool))
    np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=0.02)
    jax.jit(attention)(q[:1], k[:1], v[:1])
    assert [record.getMessage()[:38] for record in caplog.records] == ["attention of 64 x 64 tokens without cu"]
