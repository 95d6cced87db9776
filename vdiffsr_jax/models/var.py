"""VAR, a transformer over the levels of a token pyramid that predicts each level from all coarser ones.

Source: Visual Autoregressive Modeling (arXiv:2404.02905).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray

from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.models.layers import KeyValue, LayerNorm, Linear
from vdiffsr_jax.models.remat import remat_block
from vdiffsr_jax.models.var_block import Modulation, Tokens, VARBlock, level_sizes, normal_init
from vdiffsr_jax.ops.sampling import sample


class Generated(NamedTuple):
    """What generation gives, levels coarse to fine, of p_k squared tokens each; the logits are the guided ones."""

    tokens: tuple[Int32[Array, "b _"], ...]
    logits: tuple[Float32[Array, "b _ vocab"], ...]
    f_hat: Float32[Array, "b S S z"]


class VARTrunk(nnx.Module):
    """Embeddings and blocks of VAR: everything but the head.

    `remat` says what of each block the backward pass keeps, see `models.remat`.
    """

    def __init__(self, cfg: VARConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        width, normal = cfg.width, normal_init(cfg)

        def table(*shape: int) -> nnx.Param[jax.Array]:
            return nnx.Param(normal(rngs.params(), shape, jnp.float32))

        self.cfg = cfg
        self.dtype = dtype
        self.remat = remat
        self.word_embed = Linear(cfg.code_dim, width, kernel_init=normal, dtype=dtype, rngs=rngs)
        self.class_embed = None if cfg.folded else table(cfg.num_classes + 1, width)
        self.pos_start = table(cfg.patch_nums[0] ** 2, width)
        self.pos = table(cfg.num_tokens, width)
        self.level_embed = table(len(cfg.patch_nums), width)
        shared = cfg.shared_aln and not cfg.folded
        self.shared_ada = Linear(width, 6 * width, kernel_init=normal, rngs=rngs) if shared else None
        self.blocks = nnx.List([VARBlock(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.depth)])

    def condition(self, label: Int[Array, " b"] | None) -> Float[Array, "b width"] | None:
        """Class embedding (b, width) of `label` (b,); the index `num_classes` is the null class. None if folded."""
        if self.class_embed is None:
            return None
        if label is None:
            raise ValueError("this VAR is not folded: it needs a class label")
        return self.class_embed[...][label]

    def modulations(self, cond: Float[Array, "b width"] | None) -> list[Modulation]:
        """The six AdaLN vectors of every block, each (6, b, 1, width)."""
        shared = None
        if self.shared_ada is not None and cond is not None:
            shared = self.shared_ada(jax.nn.silu(cond)).reshape(cond.shape[0], 6, -1)
        return [block.modulation(cond, shared) for block in self.blocks]

    def start(self, cond: Float[Array, "_ width"] | None, batch: int) -> Float[Array, "{batch} n width"]:
        """Input of the coarsest level without its position, (batch, p_0^2, width): class embedding + start position."""
        start = self.pos_start[...][None]
        start = start if cond is None else start + cond[:, None]
        return jnp.broadcast_to(start, (batch, *start.shape[1:]))

    def positions(self) -> Float[Array, "1 n width"]:
        """(1, L, width): level embedding + absolute position of every token."""
        level = np.repeat(np.arange(len(self.cfg.patch_nums)), level_sizes(self.cfg))
        return (self.level_embed[...][level] + self.pos[...])[None]

    def hidden_states(
        self, label: Int[Array, " _"] | None, x_in: Float[Array, "b m z"], taps: Sequence[int]
    ) -> list[Tokens]:
        """Residual stream after the blocks numbered `taps` (1-based, ascending); blocks above the last do not run.

        Args: label: (b,) or (1,) int32 in 0..num_classes, where num_classes is the null class; ignored if folded.
            x_in: (b, L - p_0^2, code_dim), the accumulated codes of each level, resized to the next one.
        Returns: one (b, L, width) per tap.
        Raises: ValueError if x_in does not have the tokens of all levels but the first.
        """
        cond = self.condition(label)
        want = (self.cfg.num_tokens - self.cfg.patch_nums[0] ** 2, self.cfg.code_dim)
        if x_in.shape[1:] != want:
            raise ValueError(f"x_in has shape {x_in.shape}; this VAR needs (b, {want[0]}, {want[1]})")
        x = jnp.concatenate([self.start(cond, x_in.shape[0]), self.word_embed(x_in)], axis=1)
        x = (x + self.positions()).astype(self.dtype)
        states = []
        for i, (block, modulation) in enumerate(zip(self.blocks, self.modulations(cond), strict=True), start=1):
            if i > taps[-1]:
                break

            def run(x: jax.Array, modulation: jax.Array, block: VARBlock = block) -> jax.Array:
                return block(x, modulation)[0]

            x = remat_block(run, self.remat)(x, modulation)
            if i in taps:
                states.append(x)
        return states


class VARHead(nnx.Module):
    """AdaLN and the head over the codebook."""

    def __init__(self, cfg: VARConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.head_norm = LayerNorm(cfg.width, eps=cfg.norm_eps, affine=False)
        width = cfg.width
        self.head_ada = None if cfg.folded else Linear(width, 2 * width, kernel_init=normal_init(cfg, 0.5), rngs=rngs)
        self.head_gss = nnx.Param(jnp.zeros((2, width), jnp.float32)) if cfg.folded else None
        self.head = Linear(cfg.width, cfg.vocab_size, kernel_init=normal_init(cfg, 0.02), dtype=dtype, rngs=rngs)

    def logits(self, hidden: Tokens, cond: Float[Array, "_ width"] | None) -> Float32[Array, "b n vocab"]:
        """Head over the last block's output, (b, n, width) -> (b, n, vocab), float32."""
        if self.head_ada is not None and cond is not None:
            scale_shift = self.head_ada(jax.nn.silu(cond)).reshape(cond.shape[0], 2, -1)
        else:
            assert self.head_gss is not None
            scale_shift = self.head_gss[...][None]
        scale, shift = scale_shift.transpose(1, 0, 2)[:, :, None]
        return self.head(self.head_norm(hidden) * (1 + scale) + shift).astype(jnp.float32)


class VAR(VARTrunk, VARHead):
    """The full transformer: trunk and head."""

    def __init__(self, cfg: VARConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        VARTrunk.__init__(self, cfg, dtype=dtype, remat=remat, rngs=rngs)
        VARHead.__init__(self, cfg, dtype=dtype, rngs=rngs)

    def __call__(self, label: Int[Array, " _"] | None, x_in: Float[Array, "b m z"]) -> Float32[Array, "b n vocab"]:
        """Teacher-forced logits (b, L, vocab), float32; arguments as `hidden_states`."""
        (hidden,) = self.hidden_states(label, x_in, [self.cfg.depth])
        return self.logits(hidden, self.condition(label))

    def generate(
        self,
        next_input: Callable[[int, jax.Array, jax.Array], tuple[jax.Array, jax.Array | None]],
        label: Int[Array, " b"],
        key: PRNGKeyArray,
        *,
        guidance: float = 1.5,
        top_k: int = 0,
        top_p: float = 0.0,
    ) -> Generated:
        """Sample all levels, coarse to fine, with keys and values cached and classifier-free guidance.

        The guided logits of level k are (1 + t) conditional - t unconditional, t = guidance k / (K - 1).

        Args: next_input: (k, f_hat, tokens of level k) -> (f_hat with level k, input of level k + 1 (b, n, code_dim) or
                None after the last). label: (b,) int32.
        Raises: ValueError if the class is folded in or attention is full.
        Source: arXiv:2404.02905, section 3.2; guidance arXiv:2207.12598, eq. 6.
        """
        cfg, batch = self.cfg, label.shape[0]
        if cfg.attention == "full":
            raise ValueError("attention=full sees finer levels, which generation does not have yet: it needs causal")
        cond = self.condition(jnp.concatenate([label, jnp.full_like(label, cfg.num_classes)]))
        if cond is None:
            raise ValueError("a folded VAR knows one class only and cannot be guided; use the unfolded parameters")
        modulations, positions = self.modulations(cond), self.positions()
        head_dim = cfg.width // cfg.num_heads
        nothing = jnp.zeros((2 * batch, 0, cfg.num_heads, head_dim), self.dtype)
        caches = [KeyValue(nothing, nothing)] * cfg.depth
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
