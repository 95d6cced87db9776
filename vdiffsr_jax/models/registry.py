"""Every kind of checkpoint: its configuration and the networks it holds, {item name: Network}."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vdiffsr_jax.config import (
    ConfigError,
    ScheduleConfig,
    SwinUNetConfig,
    VARConfig,
    VARTokenizerConfig,
    VDiffSRConfig,
    VQGANConfig,
    parse,
)
from vdiffsr_jax.models.build import Network, build


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """A denoiser by itself: shapes do not tell the schedule it was trained for, so it travels with the weights."""

    denoiser: SwinUNetConfig = dataclasses.field(default_factory=SwinUNetConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)


@dataclasses.dataclass(frozen=True)
class PerceptualConfig:
    """A perceptual distance: vgg16 or alexnet (LPIPS), dists, or efficientnet_lite0 (no learned weights)."""

    backbone: str = "vgg16"


CONFIGS: dict[str, type] = {
    "vqgan": VQGANConfig,
    "var_tokenizer": VARTokenizerConfig,
    "var": VARConfig,
    "swin_unet": DenoiserConfig,
    "vdiffsr": VDiffSRConfig,
    "perceptual": PerceptualConfig,
}


def parse_config(kind: str, values: Mapping[str, Any]) -> Any:
    """The configuration dataclass of `kind` from plain values.

    Raises: ConfigError for an unknown kind, and as `config.parse` does.
    """
    if kind not in CONFIGS:
        raise ConfigError(f"unknown kind of checkpoint {kind!r}; known: {', '.join(CONFIGS)}")
    return parse(CONFIGS[kind], values)


def item_names(kind: str, config: Any) -> list[str]:
    """Names of the networks a checkpoint of `kind` holds; a single network's item is called like its kind."""
    if kind == "vdiffsr":
        return ["first_stage", "denoiser"] + ([] if config.prior is None else ["pvar"])
    return [kind]


def network(kind: str, item: str, config: Any, *, dtype: jnp.dtype = jnp.float32) -> Network:
    """The network behind one item of a checkpoint, computing in `dtype`.

    Raises: ConfigError if a checkpoint of this kind and configuration has no such item.
    """
    names = item_names(kind, config)
    if item not in names:
        raise ConfigError(f"a {kind} checkpoint of this configuration has no {item!r}, only {', '.join(names)}")
    # Imported here, so that reading a first stage does not load the code of all the others.
    if item in ("vqgan", "first_stage"):
        from vdiffsr_jax.models.vqgan import VQGAN

        return build(VQGAN, config if kind == "vqgan" else config.first_stage, dtype=dtype)
    if item == "var_tokenizer":
        from vdiffsr_jax.models.var_tokenizer import VARTokenizer

        return build(VARTokenizer, config, dtype=dtype)
    if item == "var":
        from vdiffsr_jax.models.var import VAR

        return build(VAR, config, dtype=dtype)
    if item == "swin_unet":
        from vdiffsr_jax.models.swin_unet import SwinUNet

        return build(SwinUNet, config.denoiser, dtype=dtype)
    if item == "denoiser":
        from vdiffsr_jax.models.vdiffsr import VDiffSR

        return build(VDiffSR, config, dtype=dtype)
    if item == "pvar":
        from vdiffsr_jax.models.pyramid_var import PyramidVAR

        return build(PyramidVAR, config.prior, dtype=dtype)
    return perceptual(config.backbone, dtype=dtype)


def perceptual(backbone: str, *, dtype: jnp.dtype = jnp.float32) -> Network:
    """The perceptual distance of one backbone; all have `features`, `compare` and a call of two images.

    Raises: ValueError for an unknown one.
    """
    from vdiffsr_jax.models.dists import DISTS
    from vdiffsr_jax.models.perceptual import PerceptualDistance

    return build(DISTS, dtype=dtype) if backbone == "dists" else build(PerceptualDistance, backbone, dtype=dtype)


def networks(kind: str, config: Any, *, dtype: jnp.dtype = jnp.float32) -> dict[str, Network]:
    """All networks of a checkpoint, computing in `dtype`."""
    return {item: network(kind, item, config, dtype=dtype) for item in item_names(kind, config)}
