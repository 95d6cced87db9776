"""The one door to attention: heads of scaled products, softmax in float32, the backend chosen by device and operands.

Logits never stand in memory as a whole: cuDNN keeps them on the chip, everything else works through blocks of queries
whose logits stay in the fast memory (a v5e core's 128 MiB, a processor's cache), and computes them again for gradients.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from vdiffsr_jax.ops.blocks import block_length, join, split

# Consecutive levels share one masked product until they hold this many queries: tiny products cost more than a mask.
MIN_SPAN = 128
# Logits that one sample may have in flight, 8 MiB in float32.
MAX_LOGITS = 2**21
_CUDNN_HEAD_DIM = 128
_CUDNN_LENGTH = 64
_log = logging.getLogger(__name__)
_platform: ContextVar[str | None] = ContextVar("platform", default=None)
_counting: ContextVar[bool] = ContextVar("counting", default=False)
Heads = Float[Array, "batch tokens heads dim"]


def attention(
    q: Float[Array, "batch *outer queries heads dim"],
    k: Float[Array, "batch *outer keys heads dim"],
    v: Float[Array, "batch *outer keys heads dim"],
    *,
    scale: float = 1.0,
    mask: Bool[Array, "queries keys"] | None = None,
    bias: Float[Array, "#batch *#outer #heads #queries #keys"] | None = None,
) -> Float[Array, "batch *outer queries heads dim"]:
    """softmax(scale q k^T + bias) v per head, in the dtype of v.

    Args: mask: True where the query may look; every query must be allowed at least one key.
    Source: Attention Is All You Need (arXiv:1706.03762), eq. 1.
    """
    if _counting.get():
        return _attend(q, k, v, scale, mask, bias)
    platform, plain = _platform.get() or jax.default_backend(), mask is None and bias is None
    if plain and suits_cudnn(platform, q, k) and cudnn_compiles(*q.shape[1:], k.shape[1], q.dtype):
        return _cudnn(q, k, v, scale)
    n = q.shape[-3]
    block = block_length(n, q.size // q.shape[0] // n // q.shape[-1] * k.shape[-3], MAX_LOGITS)
    if block == n:
        return _attend(q, k, v, scale, mask, bias)
    return _by_blocks(q, k, v, scale, mask, bias, block)


@contextlib.contextmanager
def compiled_for(platform: str) -> Iterator[None]:
    """What is traced inside is for this platform ("cpu", "gpu", "tpu") or for "any", not for JAX's default one."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """What is traced inside has every product that is needed, and none a second time: not to be computed so."""
    token = _counting.set(True)
    try:
        yield
    finally:
        _counting.reset(token)


def attention_weights(
    q: Float[Array, "batch *outer queries heads dim"],
    k: Float[Array, "batch *outer keys heads dim"],
    *,
    scale: float = 1.0,
    mask: Bool[Array, "queries keys"] | None = None,
    bias: Float[Array, "#batch *#outer #heads #queries #keys"] | None = None,
) -> Float32[Array, "batch *outer heads queries keys"]:
    """softmax(scale q k^T + bias) over the keys: the weights of the values in `attention`, all in memory."""
    q = (q.astype(jnp.float32) * scale).astype(q.dtype)
    logits = jnp.einsum("...nhd,...mhd->...hnm", q, k, preferred_element_type=jnp.float32)
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = jnp.where(mask.reshape((1,) * (logits.ndim - 2) + mask.shape), logits, -jnp.inf)
    return jax.nn.softmax(logits, axis=-1)


def suits_cudnn(platform: str, q: jax.Array, k: jax.Array) -> bool:
    """Whether cuDNN's kernel may gain something: half precision, heads of at most 128 numbers, at least 64 tokens.

    JAX takes no gradients of an odd number of tokens through it. A mask it would read from memory, as a bias.
    """
    d, half, tokens = q.shape[-1], q.dtype in (jnp.bfloat16, jnp.float16), (q.shape[1], k.shape[1])
    fits = q.ndim == 4 and d % 8 == 0 and d <= _CUDNN_HEAD_DIM
    return platform == "gpu" and half and fits and all(n % 2 == 0 and n >= _CUDNN_LENGTH for n in tokens)


@functools.cache
def cudnn_compiles(queries: int, heads: int, dim: int, keys: int, dtype: jnp.dtype) -> bool:
    """Whether this machine's cuDNN has kernels of that size, gradients too: chips and versions differ. Asked once each.

    In a thread of its own, since nothing of the trace that asks (mesh, precision) may enter.
    """
    q, k = (jax.ShapeDtypeStruct((1, tokens, heads, dim), dtype) for tokens in (queries, keys))

    def compile_both() -> None:
        gradients = jax.grad(lambda q, k, v: _cudnn(q, k, v, 1.0).astype(jnp.float32).sum(), (0, 1, 2))
        jax.jit(gradients).lower(q, k, k).compile()

    with ThreadPoolExecutor(1, "cudnn") as thread:
        error = thread.submit(compile_both).exception()
    if error:
        _log.warning("attention of %d x %d tokens without cuDNN: %s", queries, keys, str(error).partition("\n")[0])
    return error is None


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")


def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, mask: jax.Array | None, bias: jax.Array | None
) -> jax.Array:
    weights = attention_weights(q, k, scale=scale, mask=mask, bias=bias)
    return jnp.einsum("...hnm,...mhd->...nhd", weights.astype(v.dtype), v)


def _by_blocks(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float, mask: jax.Array | None, bias: jax.Array | None, block: int
) -> jax.Array:
    """`_attend` for one block of queries after the other; the last is filled up with queries that nobody reads."""

    def blocks(x: jax.Array | None, axis: int) -> jax.Array | None:
        """None and what is the same for all queries stay behind."""
        return None if x is None or x.shape[axis] == 1 else split(x, axis, block)

    own_bias = blocks(bias, -2)

    @jax.checkpoint
    def attend(part: tuple[jax.Array, jax.Array | None, jax.Array | None]) -> jax.Array:
        q, mask, part_bias = part
        return _attend(q, k, v, scale, mask, bias if own_bias is None else part_bias)

    return join(jax.lax.map(attend, (split(q, -3, block), blocks(mask, -2), own_bias)), -3, q.shape[-3])


def level_causal_attention(q: Heads, k: Heads, v: Heads, *, level_sizes: Sequence[int], scale: float = 1.0) -> Heads:
    """Attention in which a token sees every token of its own level and of all coarser ones.

    Each span of levels is one product with the keys up to its own end, so keys that nobody may see are not multiplied;
    a mask is needed, and computed, only inside a span of several levels.

    Args: level_sizes: tokens per level, coarse to fine, summing to all `tokens`.
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


def l2_normalize(x: Float[Array, "*axes dim"], *, eps: float = 1e-12) -> Float32[Array, "*axes dim"]:
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
