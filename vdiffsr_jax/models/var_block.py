"""One block of VAR: cosine self-attention over levels and an MLP, both modulated by the class (AdaLN).

Source: Visual Autoregressive Modeling (arXiv:2404.02905), section 3.3; AdaLN from DiT (arXiv:2212.09748).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.models.layers import Initializer, KeyValue, LayerNorm, Linear
from vdiffsr_jax.ops.attention import attention, l2_normalize, level_causal_attention

MAX_LOG_SCALE = math.log(100.0)
Tokens = Float[Array, "b n width"]
Modulation = Float[Array, "6 _ 1 width"]  # of each sample, or one for all


def level_sizes(cfg: VARConfig) -> tuple[int, ...]:
    """Tokens per level, p_k squared."""
    return tuple(p * p for p in cfg.patch_nums)


class SelfAttention(nnx.Module):
    """Cosine attention with a learned log scale per head, or scaled dot-product if not `cfg.attn_l2_norm`."""

    def __init__(self, cfg: VARConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        width = cfg.width
        self.heads = cfg.num_heads
        self.dtype = dtype
        self.scale = 1.0 if cfg.attn_l2_norm else 0.25 / math.sqrt(width // cfg.num_heads)
        self.level_sizes = level_sizes(cfg)
        self.full = cfg.attention == "full"
        lora: dict[str, Any] = {"lora_rank": cfg.lora_rank, "dtype": dtype, "rngs": rngs}
        self.qkv = Linear(width, 3 * width, use_bias=False, kernel_init=normal_init(cfg), **lora)
        self.q_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.v_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.log_scale = nnx.Param(jnp.full((self.heads,), math.log(4.0), jnp.float32)) if cfg.attn_l2_norm else None
        self.proj = Linear(width, width, kernel_init=normal_init(cfg, 1 / math.sqrt(2 * cfg.depth)), **lora)

    def __call__(self, x: Tokens, past: KeyValue | None = None) -> tuple[Tokens, KeyValue]:
        """All levels at once, (b, n, width); or with `past` the next level alone, which sees all of `past`."""
        q, k, v = self._qkv(x)
        if past is None and not self.full:
            y = level_causal_attention(q, k, v, level_sizes=self.level_sizes, scale=self.scale)
        else:
            if past is not None:
                k, v = jnp.concatenate([past.k, k], axis=1), jnp.concatenate([past.v, v], axis=1)
            y = attention(q, k, v, scale=self.scale)
        return self.proj(y.reshape(x.shape)), KeyValue(k, v)

    def _qkv(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        q = q + self.q_bias[...][None, None].astype(q.dtype)
        v = v + self.v_bias[...][None, None].astype(v.dtype)
        q, k, v = (a.reshape(*a.shape[:2], self.heads, -1) for a in (q, k, v))
        if self.log_scale is not None:
            scale = jnp.exp(jnp.minimum(self.log_scale[...], MAX_LOG_SCALE))
            q = (l2_normalize(q) * scale[None, None, :, None]).astype(self.dtype)
            k = l2_normalize(k).astype(self.dtype)
        return q, k, v


class VARBlock(nnx.Module):
    """x + gamma_1 attn((1 + scale_1) LN(x) + shift_1), then the same with an MLP; the six vectors come from the class.

    `ada` is a projection of the class embedding; `ada_gss` (6, width) is an offset to a projection that all blocks
    share (`cfg.shared_aln`) or, if `cfg.folded`, the six vectors themselves.
    """

    def __init__(self, cfg: VARConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        width, hidden = cfg.width, round(cfg.width * cfg.mlp_ratio)
        self.dtype = dtype
        self.norm = LayerNorm(width, eps=cfg.norm_eps, affine=False)
        self.attn = SelfAttention(cfg, dtype=dtype, rngs=rngs)
        lora: dict[str, Any] = {"lora_rank": cfg.lora_rank, "dtype": dtype, "rngs": rngs}
        self.fc1 = Linear(width, hidden, kernel_init=normal_init(cfg), **lora)
        self.fc2 = Linear(hidden, width, kernel_init=normal_init(cfg, 1 / math.sqrt(2 * cfg.depth)), **lora)
        constants = cfg.folded or cfg.shared_aln
        self.ada = None if constants else Linear(width, 6 * width, kernel_init=_ada_init, rngs=rngs)
        self.ada_gss = nnx.Param(_ada_init(rngs.params(), (1, 6 * width)).reshape(6, width)) if constants else None

    def modulation(self, cond: Float[Array, "b width"] | None, shared: Float[Array, "b 6 width"] | None) -> Modulation:
        """Of each sample, or one for all: gamma_1, gamma_2, scale_1, scale_2, shift_1, shift_2."""
        if self.ada is not None and cond is not None:
            six = self.ada(jax.nn.silu(cond)).reshape(cond.shape[0], 6, -1)
        else:
            assert self.ada_gss is not None
            six = self.ada_gss[...][None]
            six = six if shared is None else six + shared
        return six.transpose(1, 0, 2)[:, :, None]

    def __call__(self, x: Tokens, modulation: Modulation, past: KeyValue | None = None) -> tuple[Tokens, KeyValue]:
        gamma_1, gamma_2, scale_1, scale_2, shift_1, shift_2 = modulation
        y, cache = self.attn(self.norm(x) * (1 + scale_1) + shift_1, past)
        x = x + (gamma_1 * y).astype(self.dtype)
        y = self.fc2(jax.nn.gelu(self.fc1(self.norm(x) * (1 + scale_2) + shift_2), approximate=True))
        return x + (gamma_2 * y).astype(self.dtype), cache


def normal_init(cfg: VARConfig, gain: float = 1.0) -> Initializer:
    """Truncated normal of standard deviation gain / sqrt(3 width)."""
    return jax.nn.initializers.truncated_normal(gain / math.sqrt(3 * cfg.width))


def _ada_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
    """Gates start at almost zero, so a fresh block is nearly the identity; scales and shifts are moderate."""
    del out_sharding
    width = shape[-1] // 6
    gain = jnp.repeat(jnp.array([1e-5, 1e-5, 0.5, 0.5, 0.5, 0.5], dtype), width)
    return jax.random.normal(key, tuple(shape), dtype) / math.sqrt(3 * width) * gain[None]
