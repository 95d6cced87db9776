"""PyramidVAR: what VAR knows about an image, as one feature map per level, from one teacher-forced pass.

Design: tokenise the window, run VAR on these codes with the null class, read hidden states after a few blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vdiffsr_jax.config import PriorConfig, VARConfig
from vdiffsr_jax.models.build import Params, build, flatten
from vdiffsr_jax.models.layers import KERNEL_INIT, LayerNorm, Linear
from vdiffsr_jax.models.prior import Pyramid, TokenPrior
from vdiffsr_jax.models.var import VARTrunk
from vdiffsr_jax.models.var_fold import fold_class, merge_lora
from vdiffsr_jax.models.var_tokenizer import VARTokenizer


def trunk_config(cfg: PriorConfig) -> VARConfig:
    """The part of VAR that the prior needs: blocks up to the last tap, with the prior's own LoRA rank and attention."""
    return dataclasses.replace(cfg.var, depth=cfg.tap_layers[-1], lora_rank=cfg.lora_rank, attention=cfg.attention)


class ReadOut(nnx.Module):
    """P_k = W LN(sum_t softmax(a_k)_t h_t) + e_k for every token of level k.

    The mix `a` starts at zero (all taps alike). With the published depth 16 and rank-16 LoRA (4,194,304 parameters) the
    trainable total is 4.5 M, 0.27 M of them here; a hidden layer would double this part.
    """

    def __init__(self, cfg: PriorConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        levels = len(cfg.var.patch_nums)
        self.dtype = dtype
        self.level = tuple(int(k) for k in np.repeat(np.arange(levels), [p * p for p in cfg.var.patch_nums]))
        self.mix = nnx.Param(jnp.zeros((levels, len(cfg.tap_layers)), jnp.float32))
        self.norm = LayerNorm(cfg.var.width, eps=cfg.var.norm_eps, dtype=dtype)
        self.linear = Linear(cfg.var.width, cfg.dim, dtype=dtype, rngs=rngs)
        self.level_embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), (levels, cfg.dim), jnp.float32))

    def __call__(self, hidden: list[Float[Array, "b n width"]]) -> Float[Array, "b n dim"]:
        """One map per tap -> all tokens of the pyramid."""
        level = np.asarray(self.level)
        weights = jax.nn.softmax(self.mix[...], axis=-1)[level].astype(self.dtype)
        mixed = sum((h * weights[None, :, t, None] for t, h in enumerate(hidden)), jnp.zeros((), self.dtype))
        return self.linear(self.norm(mixed)) + self.level_embed[...][level][None].astype(self.dtype)


class PyramidVAR(TokenPrior):
    """What VAR knows about the window, read out of its hidden states; at the finest level the window's codes too."""

    parts = ("tokenizer", "var")

    def __init__(self, cfg: PriorConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        self.cfg = cfg
        self.tokenizer = VARTokenizer(cfg.tokenizer, decoder=False, dtype=dtype, rngs=rngs)
        self.var = VARTrunk(trunk_config(cfg), dtype=dtype, remat=remat, rngs=rngs)
        self.adapter = ReadOut(cfg, dtype=dtype, rngs=rngs)
        self.code_proj = Linear(cfg.tokenizer.z_channels, cfg.dim, dtype=dtype, rngs=rngs)

    def from_tokens(self, tokens: list[Int[Array, "b _"]]) -> Pyramid:
        """The prior from code indices, one (b, p_k^2) int32 per level."""
        return self.read(tokens)[0]

    def read(self, tokens: list[Int[Array, "b _"]]) -> tuple[Pyramid, Float[Array, "b n width"]]:
        """`from_tokens`, and the residual stream at the last tap, which VAR's head takes."""
        x_in, f_hat = (jax.lax.stop_gradient(a) for a in self.tokenizer.var_input_and_f_hat(tokens))
        null = None if self.cfg.var.folded else jnp.array([self.cfg.var.num_classes], jnp.int32)
        hidden = self.var.hidden_states(null, x_in, self.cfg.tap_layers)
        if self.cfg.train in ("none", "adapter"):
            hidden = [jax.lax.stop_gradient(h) for h in hidden]
        pyramid = split_levels(self.adapter(hidden), self.cfg.var.patch_nums)
        return (*pyramid[:-1], pyramid[-1] + self.code_proj(f_hat)), hidden[-1]

    @classmethod
    def trainable(cls, path: str, cfg: PriorConfig) -> bool:
        """none: nothing. adapter: the read-out. lora: and VAR's LoRA factors. full: everything but the tokenizer."""
        part = path.split("/")[0]
        if cfg.train == "none" or part == "tokenizer":
            return False
        if part != "var" or cfg.train == "full":
            return True
        return cfg.train == "lora" and path.endswith(("/lora_a", "/lora_b"))

    @classmethod
    def fold(cls, params: Params, cfg: PriorConfig) -> tuple[Params, PriorConfig]:
        """LoRA merged, VAR's AdaLN and class embedding reduced to the null class."""
        var, _ = fold_class(merge_lora(params["var"]), cfg.var, cfg.var.num_classes)
        folded = dataclasses.replace(cfg.var, folded=True, lora_rank=0)
        return params | {"var": var}, dataclasses.replace(cfg, var=folded, lora_rank=0, train="none")

    @classmethod
    def is_folded(cls, cfg: PriorConfig) -> bool:
        return cfg.var.folded

    @classmethod
    def assemble(cls, parts: Mapping[str, Params], cfg: PriorConfig, key: PRNGKeyArray) -> Params:
        """Around a trained VAR and tokenizer, of which only the needed parts are kept.

        The read-out and LoRA's A come from `key`, LoRA's B is zero; with prior.mode=random_weights all of VAR does.
        """
        adapter_key, code_key, var_key = jax.random.split(key, 3)
        # The whole network is never initialised here: that would take its memory a second time.
        fresh = {
            "adapter": build(ReadOut, cfg, dtype=jnp.float32).init(adapter_key),
            "code_proj": build(Linear, cfg.tokenizer.z_channels, cfg.dim).init(code_key),
        }
        if cfg.mode == "random_weights":
            fresh["var"] = build(VARTrunk, trunk_config(cfg)).init(var_key)
        given = flatten({**parts, **fresh})
        network = build(cls, cfg)
        for i, (name, struct) in enumerate(flatten(network.abstract).items()):
            if name not in given and name.endswith("/lora_a"):
                given[name] = KERNEL_INIT(jax.random.fold_in(var_key, i), struct.shape, jnp.float32)
            elif name not in given and name.endswith("/lora_b"):
                given[name] = jnp.zeros(struct.shape, jnp.float32)
        return network.pick(given, "VAR and its tokenizer")


def split_levels(tokens: Float[Array, "b n dim"], patch_nums: tuple[int, ...]) -> Pyramid:
    """(b, L, d) -> one (b, p_k, p_k, d) per level, row by row."""
    edges = np.cumsum([p * p for p in patch_nums])[:-1]
    parts = jnp.split(tokens, edges, axis=1)
    return tuple(part.reshape(-1, p, p, tokens.shape[-1]) for part, p in zip(parts, patch_nums, strict=True))
