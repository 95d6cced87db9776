"""VAR, a transformer over the levels of a token pyramid that predicts each level from all coarser ones.

Source: Visual Autoregressive Modeling (arXiv:2404.02905).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.models.layers import Initializer, LayerNorm, Linear
from vdiffsr_jax.ops.attention import attention, l2_normalize, level_causal_attention
from vdiffsr_jax.ops.sampling import sample

MAX_LOG_SCALE = math.log(100.0)
Cache = tuple[jax.Array, jax.Array]  # keys and values of the tokens so far, each (b, m, heads, d)


class Generated(NamedTuple):
    """What generation gives, levels coarse to fine: tokens[k] (b, p_k^2) int32, guided logits[k] (b, p_k^2, vocab)."""

    tokens: tuple[jax.Array, ...]
    logits: tuple[jax.Array, ...]
    f_hat: jax.Array


def level_sizes(cfg: VARConfig) -> tuple[int, ...]:
    """Tokens per level, p_k squared."""
    return tuple(p * p for p in cfg.patch_nums)


class SelfAttention(nnx.Module):
    """Cosine attention with a learned log scale per head, or scaled dot-product if not `cfg.attn_l2_norm`."""

    def __init__(self, cfg: VARConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        width = cfg.width
        self.heads = cfg.num_heads
        self.dtype = dtype
        self.scale = 1.0 if cfg.attn_l2_norm else 0.25 / math.sqrt(width // cfg.num_heads)
        self.level_sizes = level_sizes(cfg)
        lora = {"lora_rank": cfg.lora_rank, "dtype": dtype, "rngs": rngs}
        self.qkv = Linear(width, 3 * width, use_bias=False, kernel_init=_normal(cfg), **lora)
        self.q_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.v_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.log_scale = nnx.Param(jnp.full((self.heads,), math.log(4.0), jnp.float32)) if cfg.attn_l2_norm else None
        self.proj = Linear(width, width, kernel_init=_normal(cfg, 1 / math.sqrt(2 * cfg.depth)), **lora)

    def __call__(self, x: jax.Array, past: Cache | None = None) -> tuple[jax.Array, Cache]:
        """All levels at once, (b, n, width); or with `past` the next level alone, which sees all of `past`."""
        q, k, v = self._qkv(x)
        if past is None:
            y = level_causal_attention(q, k, v, level_sizes=self.level_sizes, scale=self.scale)
        else:
            k, v = (jnp.concatenate(pair, axis=1) for pair in zip(past, (k, v), strict=True))
            y = attention(q, k, v, scale=self.scale)
        return self.proj(y.reshape(x.shape)), (k, v)

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


class Block(nnx.Module):
    """x + gamma_1 attn((1 + scale_1) LN(x) + shift_1), then the same with an MLP; the six vectors come from the class.

    `ada` is a projection of the class embedding; `ada_gss` (6, width) is an offset to a projection that all blocks
    share (`cfg.shared_aln`) or, if `cfg.folded`, the six vectors themselves.
    """

    def __init__(self, cfg: VARConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        width, hidden = cfg.width, round(cfg.width * cfg.mlp_ratio)
        self.folded = cfg.folded
        self.dtype = dtype
        self.norm = LayerNorm(width, eps=cfg.norm_eps, affine=False)
        self.attn = SelfAttention(cfg, dtype=dtype, rngs=rngs)
        lora = {"lora_rank": cfg.lora_rank, "dtype": dtype, "rngs": rngs}
        self.fc1 = Linear(width, hidden, kernel_init=_normal(cfg), **lora)
        self.fc2 = Linear(hidden, width, kernel_init=_normal(cfg, 1 / math.sqrt(2 * cfg.depth)), **lora)
        if cfg.folded or cfg.shared_aln:
            self.ada_gss = nnx.Param(_ada_gss_init(rngs.params(), (6, width)))
            self.ada = None
        else:
            self.ada_gss = None
            self.ada = Linear(width, 6 * width, kernel_init=_ada_init(cfg), rngs=rngs)

    def modulation(self, cond: jax.Array | None, shared: jax.Array | None) -> jax.Array:
        """(6, b or 1, 1, width): gamma_1, gamma_2, scale_1, scale_2, shift_1, shift_2."""
        if self.ada is not None and cond is not None:
            six = self.ada(jax.nn.silu(cond)).reshape(cond.shape[0], 6, -1)
        else:
            assert self.ada_gss is not None
            six = self.ada_gss[...][None]
            six = six if shared is None else six + shared
        return six.transpose(1, 0, 2)[:, :, None]

    def __call__(self, x: jax.Array, modulation: jax.Array, past: Cache | None = None) -> tuple[jax.Array, Cache]:
        gamma_1, gamma_2, scale_1, scale_2, shift_1, shift_2 = modulation
        y, cache = self.attn(self.norm(x) * (1 + scale_1) + shift_1, past)
        x = x + (gamma_1 * y).astype(self.dtype)
        y = self.fc2(jax.nn.gelu(self.fc1(self.norm(x) * (1 + scale_2) + shift_2), approximate=True))
        return x + (gamma_2 * y).astype(self.dtype), cache


class VARTrunk(nnx.Module):
    """Embeddings and blocks of VAR: everything but the head.

    `remat` recomputes each block in the backward pass instead of keeping its activations.
    """

    def __init__(self, cfg: VARConfig, *, dtype: jnp.dtype = jnp.float32, remat: bool = False, rngs: nnx.Rngs):
        width, normal = cfg.width, _normal(cfg)

        def table(*shape: int) -> nnx.Param:
            return nnx.Param(normal(rngs.params(), shape, jnp.float32))

        self.cfg = cfg
        self.dtype = dtype
        self.remat = remat
        self.word_embed = Linear(cfg.code_dim, width, kernel_init=normal, dtype=dtype, rngs=rngs)
        self.class_embed = None if cfg.folded else table(cfg.num_classes + 1, width)
        self.pos_start = table(cfg.patch_nums[0] ** 2, width)
        self.pos = table(cfg.num_tokens, width)
        self.level_embed = table(len(cfg.patch_nums), width)
        if cfg.shared_aln and not cfg.folded:
            self.shared_ada = Linear(width, 6 * width, kernel_init=normal, rngs=rngs)
        else:
            self.shared_ada = None
        self.blocks = nnx.List([Block(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.depth)])

    def condition(self, label: jax.Array | None) -> jax.Array | None:
        """Class embedding (b, width) of `label` (b,); the index `num_classes` is the null class. None if folded."""
        if self.class_embed is None:
            return None
        if label is None:
            raise ValueError("this VAR is not folded: it needs a class label")
        return self.class_embed[...][label]

    def modulations(self, cond: jax.Array | None) -> list[jax.Array]:
        """The six AdaLN vectors of every block, each (6, b, 1, width)."""
        shared = None
        if self.shared_ada is not None and cond is not None:
            shared = self.shared_ada(jax.nn.silu(cond)).reshape(cond.shape[0], 6, -1)
        return [block.modulation(cond, shared) for block in self.blocks]

    def start(self, cond: jax.Array | None, batch: int) -> jax.Array:
        """Input of the coarsest level without its position, (batch, p_0^2, width): class embedding + start position."""
        start = self.pos_start[...][None]
        start = start if cond is None else start + cond[:, None]
        return jnp.broadcast_to(start, (batch, *start.shape[1:]))

    def positions(self) -> jax.Array:
        """(1, L, width): level embedding + absolute position of every token."""
        level = np.repeat(np.arange(len(self.cfg.patch_nums)), level_sizes(self.cfg))
        return (self.level_embed[...][level] + self.pos[...])[None]

    def hidden_states(self, label: jax.Array | None, x_in: jax.Array, taps: Sequence[int]) -> list[jax.Array]:
        """Residual stream after the blocks numbered `taps` (1-based, ascending); blocks above the last do not run.

        Args: label: (b,) or (1,) int32 in 0..num_classes, where num_classes is the null class; ignored if folded.
            x_in: (b, L - p_0^2, code_dim), the accumulated codes of each level, resized to the next one.
        Returns: one (b, L, width) per tap.
        Raises: ValueError if x_in does not have the tokens of all levels but the first.
        """
        return self._hidden_states(self.condition(label), x_in, taps)

    def _hidden_states(self, cond: jax.Array | None, x_in: jax.Array, taps: Sequence[int]) -> list[jax.Array]:
        want = (self.cfg.num_tokens - self.cfg.patch_nums[0] ** 2, self.cfg.code_dim)
        if x_in.shape[1:] != want:
            raise ValueError(f"x_in is (b, {', '.join(map(str, x_in.shape[1:]))}), this VAR needs (b, {want[0]}, {want[1]})")
        x = jnp.concatenate([self.start(cond, x_in.shape[0]), self.word_embed(x_in)], axis=1)
        x = (x + self.positions()).astype(self.dtype)
        states = []
        for i, (block, modulation) in enumerate(zip(self.blocks, self.modulations(cond), strict=True), start=1):
            if i > taps[-1]:
                break

            def run(x: jax.Array, modulation: jax.Array, block: Block = block) -> jax.Array:
                return block(x, modulation)[0]

            x = (jax.checkpoint(run) if self.remat else run)(x, modulation)
            if i in taps:
                states.append(x)
        return states


class VAR(VARTrunk):
    """The full transformer: trunk, AdaLN and the head over the codebook."""

    def __init__(self, cfg: VARConfig, *, dtype: jnp.dtype = jnp.float32, remat: bool = False, rngs: nnx.Rngs):
        super().__init__(cfg, dtype=dtype, remat=remat, rngs=rngs)
        self.head_norm = LayerNorm(cfg.width, eps=cfg.norm_eps, affine=False)
        if cfg.folded:
            self.head_ada = None
            self.head_gss = nnx.Param(jnp.zeros((2, cfg.width), jnp.float32))
        else:
            self.head_ada = Linear(cfg.width, 2 * cfg.width, kernel_init=_normal(cfg, 0.5), rngs=rngs)
            self.head_gss = None
        self.head = Linear(cfg.width, cfg.vocab_size, kernel_init=_normal(cfg, 0.02), dtype=dtype, rngs=rngs)

    def __call__(
        self,
        label: jax.Array | None,
        x_in: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
        class_dropout: float = 0.1,
    ) -> jax.Array:
        """Teacher-forced logits (b, L, vocab), float32; arguments as `hidden_states`.

        With `dropout_key` each label becomes the null class with probability `class_dropout`.
        """
        if dropout_key is not None and label is not None:
            dropped = jax.random.bernoulli(dropout_key, class_dropout, label.shape)
            label = jnp.where(dropped, self.cfg.num_classes, label)
        cond = self.condition(label)
        (hidden,) = self._hidden_states(cond, x_in, [self.cfg.depth])
        return self.logits(hidden, cond)

    def logits(self, hidden: jax.Array, cond: jax.Array | None) -> jax.Array:
        """Head over the last block's output, (b, n, width) -> (b, n, vocab), float32."""
        if self.head_ada is not None and cond is not None:
            scale_shift = self.head_ada(jax.nn.silu(cond)).reshape(cond.shape[0], 2, -1)
        else:
            assert self.head_gss is not None
            scale_shift = self.head_gss[...][None]
        scale, shift = scale_shift.transpose(1, 0, 2)[:, :, None]
        return self.head(self.head_norm(hidden) * (1 + scale) + shift).astype(jnp.float32)

    def generate(
        self,
        next_input: Callable[[int, jax.Array, jax.Array], tuple[jax.Array, jax.Array | None]],
        label: jax.Array,
        key: jax.Array,
        *,
        guidance: float = 1.5,
        top_k: int = 0,
        top_p: float = 0.0,
    ) -> Generated:
        """Sample all levels, coarse to fine, with keys and values cached and classifier-free guidance.

        The guided logits of level k are (1 + t) conditional - t unconditional, t = guidance k / (K - 1).

        Args: next_input: (k, f_hat, tokens of level k) -> (f_hat with level k, input of level k + 1 (b, n, code_dim) or
                None after the last). label: (b,) int32.
        Source: arXiv:2404.02905, section 3.2; guidance arXiv:2207.12598, eq. 6.
        """
        cfg, batch = self.cfg, label.shape[0]
        cond = self.condition(jnp.concatenate([label, jnp.full_like(label, cfg.num_classes)]))
        if cond is None:
            raise ValueError("a folded VAR knows one class only and cannot be guided; use the unfolded parameters")
        modulations, positions = self.modulations(cond), self.positions()
        head_dim = cfg.width // cfg.num_heads
        nothing = jnp.zeros((2 * batch, 0, cfg.num_heads, head_dim), self.dtype)
        caches: list[Cache] = [(nothing, nothing)] * cfg.depth
        f_hat = jnp.zeros((batch, cfg.patch_nums[-1], cfg.patch_nums[-1], cfg.code_dim), jnp.float32)
        embedded = self.start(cond, 2 * batch)
        tokens, logits, first = [], [], 0
        for k, size in enumerate(level_sizes(cfg)):
            x = (embedded + positions[:, first : first + size]).astype(self.dtype)
            first += size
            for i, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
                x, caches[i] = block(x, modulation, caches[i])
            with_class, without = jnp.split(self.logits(x, cond), 2)
            t = guidance * k / max(len(cfg.patch_nums) - 1, 1)
            logits.append((1 + t) * with_class - t * without)
            tokens.append(sample(jax.random.fold_in(key, k), logits[-1], top_k=top_k, top_p=top_p))
            f_hat, level_input = next_input(k, f_hat, tokens[-1])
            if level_input is not None:
                embedded = jnp.tile(self.word_embed(level_input), (2, 1, 1))
        return Generated(tuple(tokens), tuple(logits), f_hat)


def _normal(cfg: VARConfig, gain: float = 1.0) -> Initializer:
    return jax.nn.initializers.truncated_normal(gain * math.sqrt(1 / (3 * cfg.width)))


def _ada_init(cfg: VARConfig) -> Initializer:
    """Gates start at almost zero, scales and shifts at half the usual spread."""

    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32, out_sharding=None) -> jax.Array:  # type: ignore[no-untyped-def]
        del out_sharding
        gain = jnp.repeat(jnp.array([1e-5, 1e-5, 0.5, 0.5, 0.5, 0.5], dtype), cfg.width)
        return _normal(cfg)(key, shape, dtype) * gain[None]

    return init


def _ada_gss_init(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    gain = jnp.array([1e-5, 1e-5, 0.5, 0.5, 0.5, 0.5], jnp.float32)
    return jax.random.normal(key, shape, jnp.float32) / math.sqrt(shape[-1]) * gain[:, None]
