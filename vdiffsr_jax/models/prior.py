"""A prior: what guides the denoiser, as one feature map per level. A kind of prior is one class, named in `PRIORS`."""

from __future__ import annotations

import abc
import dataclasses
import pkgutil
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from vdiffsr_jax.config import ConfigError, PriorConfig, VDiffSRConfig
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.models.var_tokenizer import VARTokenizer

Pyramid = tuple[Float[Array, "b _ _ dim"], ...]  # one map of p_k cells a side per level, coarse to fine


class Prior(nnx.Module, abc.ABC):
    """Window -> prior pyramid. CoGU and CSPA know no more of it than its levels, `cfg.tokenizer.patch_nums`, and `dim`.

    `parts`: the checkpoints, by their flag of `init_from`, that `assemble` starts from.
    """

    parts: tuple[str, ...] = ()

    @abc.abstractmethod
    def __init__(self, cfg: PriorConfig, *, dtype: DTypeLike, remat: str, rngs: nnx.Rngs):
        """A prior computing in `dtype`."""

    @abc.abstractmethod
    def __call__(self, window: Float[Array, "b S S 3"]) -> Pyramid:
        """(b, S, S, 3) in [-1, 1], S = cfg.tokenizer.window_size, -> one (b, p_k, p_k, cfg.dim) per level."""

    @classmethod
    @abc.abstractmethod
    def trainable(cls, path: str, cfg: PriorConfig) -> bool:
        """Whether the parameter `path` (as `build.flatten` names it) learns under `cfg.train`."""

    @classmethod
    @abc.abstractmethod
    def assemble(cls, parts: Mapping[str, Params], cfg: PriorConfig, key: PRNGKeyArray) -> Params:
        """Its parameters around those of trained `parts`; what they do not hold is drawn from `key`.

        Raises: ValueError listing what is missing or has another shape.
        """

    @classmethod
    def fold(cls, params: Params, cfg: PriorConfig) -> tuple[Params, PriorConfig]:
        """Inference form, the same outputs for less memory; by default nothing can be saved."""
        return params, dataclasses.replace(cfg, train="none", lora_rank=0)

    @classmethod
    def is_folded(cls, cfg: PriorConfig) -> bool:
        """Whether `cfg` is what `fold` returns."""
        return cfg.train == "none" and not cfg.lora_rank


class TokenPrior(Prior):
    """A prior that reads the window's own codes; the tokenizer (encoder and codebook only) is always frozen."""

    cfg: PriorConfig
    tokenizer: VARTokenizer

    def __call__(self, window: Float[Array, "b S S 3"]) -> Pyramid:
        """The prior of each window, NaN if the encoder's features are not finite.

        Raises: ValueError for another size (VAR has absolute positions).
        """
        features = self._features(window)
        pyramid = self.from_tokens(self.tokenizer.tokens(features))
        # What is not a number has a code like any other, which would not tell.
        finite = jnp.isfinite(features.astype(jnp.float32).sum(axis=(1, 2, 3), keepdims=True))
        return tuple(jnp.where(finite, level, jnp.nan) for level in pyramid)

    def tokens(self, window: Float[Array, "b S S 3"]) -> list[Int32[Array, "b _"]]:
        """The windows' own codes, one (b, p_k^2) int32 per level."""
        return self.tokenizer.tokens(self._features(window))

    def _features(self, window: Float[Array, "b S S 3"]) -> Float[Array, "b P P z"]:
        size = self.cfg.tokenizer.window_size
        if window.shape[1:] != (size, size, 3):
            raise ValueError(f"the prior takes windows of {size}x{size}x3, not {'x'.join(map(str, window.shape[1:]))}")
        return self.tokenizer.encode(window)

    @abc.abstractmethod
    def from_tokens(self, tokens: list[Int[Array, "b _"]]) -> Pyramid:
        """The prior from code indices, one (b, p_k^2) int32 per level."""


# kind -> module:class; `prior.kind` may also name a class outside of this package in the same form.
PRIORS = {
    "var": "vdiffsr_jax.models.pyramid_var:PyramidVAR",
    "codes": "vdiffsr_jax.models.code_pyramid:CodePyramid",
}


def prior_class(cfg: PriorConfig) -> type[Prior]:
    """The class of `cfg.kind`.

    Raises: ConfigError if there is none of this name.
    """
    try:
        found = pkgutil.resolve_name(PRIORS.get(cfg.kind, cfg.kind))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"prior.kind={cfg.kind!r} must be {', '.join(PRIORS)} or module:Class ({error})") from None
    if not (isinstance(found, type) and issubclass(found, Prior)):
        raise ConfigError(f"prior.kind={cfg.kind!r} must be {', '.join(PRIORS)} or module:Class of a Prior")
    return found


def fold_model(items: Mapping[str, Params], cfg: VDiffSRConfig) -> tuple[dict[str, Params], VDiffSRConfig]:
    """An assembled model with its prior in inference form; as it is if it has none or was folded before."""
    if cfg.prior is None or prior_class(cfg.prior).is_folded(cfg.prior):
        return dict(items), cfg
    pvar, prior = prior_class(cfg.prior).fold(items["pvar"], cfg.prior)
    return {**items, "pvar": pvar}, dataclasses.replace(cfg, prior=prior)
