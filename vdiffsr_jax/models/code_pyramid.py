"""CodePyramid: the tokenizer's own multi-scale codes as a prior, without VAR: the control that tells what VAR adds."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vdiffsr_jax.config import PriorConfig
from vdiffsr_jax.models.build import Params, build, flatten
from vdiffsr_jax.models.layers import LayerNorm, Linear
from vdiffsr_jax.models.prior import Pyramid, TokenPrior
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.ops import resize


class CodePyramid(TokenPrior):
    """P_k = W LN(area(f_hat_k, p_k)) + e_k, f_hat_k the cumulative code map of levels 1..k; the tokenizer is frozen."""

    parts = ("tokenizer",)

    def __init__(self, cfg: PriorConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        self.cfg = cfg
        self.tokenizer = VARTokenizer(cfg.tokenizer, decoder=False, dtype=dtype, rngs=rngs)
        self.read_out = CodeReadOut(cfg, dtype=dtype, rngs=rngs)

    def from_tokens(self, tokens: list[Int[Array, "b _"]]) -> Pyramid:
        return self.read_out([jax.lax.stop_gradient(f) for f in self.tokenizer.f_hats(tokens)])

    @classmethod
    def trainable(cls, path: str, cfg: PriorConfig) -> bool:
        """Everything but the tokenizer, unless `cfg.train` is none."""
        return cfg.train != "none" and not path.startswith("tokenizer/")

    @classmethod
    def assemble(cls, parts: Mapping[str, Params], cfg: PriorConfig, key: PRNGKeyArray) -> Params:
        """A fresh read-out around the tokenizer's encoder and codebook."""
        given = flatten({**parts, "read_out": build(CodeReadOut, cfg).init(key)})
        return build(cls, cfg).pick(given, "the tokenizer's parameters")


class CodeReadOut(nnx.Module):
    """One norm and one projection for all levels, and a level embedding."""

    def __init__(self, cfg: PriorConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.patch_nums = cfg.tokenizer.patch_nums
        self.norm = LayerNorm(cfg.tokenizer.z_channels, eps=1e-6, dtype=dtype)
        self.linear = Linear(cfg.tokenizer.z_channels, cfg.dim, dtype=dtype, rngs=rngs)
        shape = (len(self.patch_nums), cfg.dim)
        self.level_embed = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, jnp.float32))

    def __call__(self, f_hats: list[Float[Array, "b S S z"]]) -> Pyramid:
        """One (b, P, P, z_channels) per level, at the finest size, -> the pyramid."""
        maps = []
        for k, (p, f_hat) in enumerate(zip(self.patch_nums, f_hats, strict=True)):
            features = self.linear(self.norm(resize.area(f_hat, (p, p))))
            maps.append(features + self.level_embed[...][k].reshape(1, 1, 1, -1).astype(features.dtype))
        return tuple(maps)
