"""One record per kind of checkpoint: its configuration, the networks it holds, and what a run may take from it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from vdiffsr_jax.config import (
    ConfigError,
    PriorConfig,
    ScheduleConfig,
    SwinUNetConfig,
    VARConfig,
    VARTokenizerConfig,
    VDiffSRConfig,
    VQGANConfig,
    parse,
)
from vdiffsr_jax.models.build import Network, build
from vdiffsr_jax.models.clip_iqa import CLIPIQAConfig
from vdiffsr_jax.models.musiq import MUSIQConfig


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """A denoiser by itself: shapes do not tell the schedule it was trained for, so it travels with the weights."""

    denoiser: SwinUNetConfig = dataclasses.field(default_factory=SwinUNetConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)


@dataclasses.dataclass(frozen=True)
class PerceptualConfig:
    """A perceptual distance: vgg16 or alexnet (LPIPS), dists, or efficientnet_lite0 (no learned weights)."""

    backbone: str = "vgg16"


@dataclasses.dataclass(frozen=True)
class Item:
    """One network of a checkpoint.

    `module`: its class as "module:Class", imported when it is built, or a function of `part` that returns the class.
    `part`: what of the configuration the class is made from; the checkpoint has no such item where it is None.
    `flags`: the flags of init_from that may mean this item.
    """

    module: str | Callable[[Any], Callable[..., Any]]
    part: Callable[[Any], Any] = lambda config: config
    flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of checkpoint: the class of its configuration, and {item name: Item}; a single network's is its kind.

    `beside`: {class of a run's model: from its configuration, which has none of this kind's in it, the one that fits}.
    """

    config: type
    items: Mapping[str, Item]
    beside: Mapping[type, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)


def _prior_class(prior: Any) -> Callable[..., Any]:
    from vdiffsr_jax.models.prior import prior_class

    return prior_class(prior)


def _distance_class(backbone: str) -> Callable[..., Any]:
    from vdiffsr_jax.models.dists import DISTS
    from vdiffsr_jax.models.perceptual import PerceptualDistance

    return DISTS if backbone == "dists" else PerceptualDistance


def _tokenizer_of(var: VARConfig) -> VARTokenizerConfig:
    return VARTokenizerConfig(patch_nums=var.patch_nums, vocab_size=var.vocab_size, z_channels=var.code_dim)


_MODELS = "vdiffsr_jax.models"
KINDS: dict[str, Kind] = {
    "vqgan": Kind(VQGANConfig, {"vqgan": Item(f"{_MODELS}.vqgan:VQGAN", flags=("first_stage",))}),
    "var_tokenizer": Kind(
        VARTokenizerConfig,
        {"var_tokenizer": Item(f"{_MODELS}.var_tokenizer:VARTokenizer", flags=("tokenizer",))},
        beside={VARConfig: _tokenizer_of},
    ),
    "var": Kind(VARConfig, {"var": Item(f"{_MODELS}.var:VAR", flags=("var",))}),
    "swin_unet": Kind(
        DenoiserConfig,
        {"swin_unet": Item(f"{_MODELS}.swin_unet:SwinUNet", lambda c: c.denoiser, flags=("denoiser", "teacher"))},
        beside={VDiffSRConfig: lambda model: DenoiserConfig(model.denoiser, model.schedule)},
    ),
    "vdiffsr": Kind(
        VDiffSRConfig,
        {
            "first_stage": Item(f"{_MODELS}.vqgan:VQGAN", lambda c: c.first_stage, ("first_stage",)),
            "denoiser": Item(
                f"{_MODELS}.vdiffsr:VDiffSR", lambda c: dataclasses.replace(c, sharp=None), ("denoiser", "teacher")
            ),
            "pvar": Item(_prior_class, lambda c: c.prior, ("pvar",)),
            "sharp": Item(f"{_MODELS}.fidelity:SharpEnd", lambda c: c if c.sharp else None),
        },
    ),
    "pvar": Kind(PriorConfig, {"pvar": Item(_prior_class, flags=("pvar",))}),
    "perceptual": Kind(
        PerceptualConfig,
        {"perceptual": Item(_distance_class, lambda c: c.backbone, flags=("perceptual",))},
    ),
    "musiq": Kind(MUSIQConfig, {"musiq": Item(f"{_MODELS}.musiq:MUSIQ")}),
    "clip_iqa": Kind(CLIPIQAConfig, {"clip_iqa": Item(f"{_MODELS}.clip_iqa:CLIPIQA")}),
}


def parse_config(kind: str, values: Mapping[str, Any]) -> Any:
    """The configuration dataclass of `kind` from plain values.

    Raises: ConfigError for an unknown kind, and as `config.parse` does.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of checkpoint {kind!r}; known: {', '.join(KINDS)}")
    return parse(KINDS[kind].config, values)


def item_names(kind: str, config: Any) -> list[str]:
    """Names of the networks a checkpoint of `kind` and this configuration holds."""
    return [name for name, item in KINDS[kind].items.items() if item.part(config) is not None]


def network(kind: str, item: str, config: Any, *, dtype: DTypeLike = jnp.float32, remat: str = "none") -> Network[Any]:
    """The network behind one item of a checkpoint, computing in `dtype`.

    Args: config: hashable, its sequences are tuples. remat: what the backward pass keeps, for the networks that know
        it (`models.remat`).
    Raises: ConfigError if a checkpoint of this kind and configuration has no such item.
    """
    names = item_names(kind, config)
    if item not in names:
        raise ConfigError(f"a {kind} checkpoint of this configuration has no {item!r}, only {', '.join(names)}")
    record = KINDS[kind].items[item]
    part = record.part(config)
    make = pkgutil.resolve_name(record.module) if isinstance(record.module, str) else record.module(part)
    options = {"remat": remat} if "remat" in inspect.signature(make.__init__).parameters else {}
    return _built(make, part, dtype=jnp.dtype(dtype), **options)


# Tracing a network's initialisation takes a second or two, and a command asks for the same one several times.
_built = functools.lru_cache(maxsize=64)(build)


def networks(kind: str, config: Any, *, dtype: DTypeLike = jnp.float32, remat: str = "none") -> dict[str, Network[Any]]:
    """All networks of a checkpoint, computing in `dtype`."""
    return {item: network(kind, item, config, dtype=dtype, remat=remat) for item in item_names(kind, config)}


def accepted(flag: str) -> dict[str, str]:
    """{kind of checkpoint: its item} that init_from.`flag` may name."""
    found = [(kind, name, item) for kind, record in KINDS.items() for name, item in record.items.items()]
    return {kind: name for kind, name, item in found if flag in item.flags}


def described(kind: str, item: str, config: Any) -> Any:
    """What a checkpoint's configuration says of one item: all of it where it holds one network, else its part."""
    return config if len(KINDS[kind].items) == 1 else KINDS[kind].items[item].part(config)
