"""Published files to one VDiff-SR model: converted first stage and denoiser, and the prior around VAR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vdiffsr_jax.config import ConfigError, VDiffSRConfig, parse, to_dict
from vdiffsr_jax.conversion import convert as files
from vdiffsr_jax.conversion.convert import Converted, convert, merge
from vdiffsr_jax.conversion.rules import ConversionError

_FLAGS = {
    "swin_unet": "--denoiser",
    "vqgan": "--first-stage",
    "var": "--var",
    "var_tokenizer": "--tokenizer",
}


def assemble(
    denoiser: Path,
    first_stage: Path,
    var: Path | None = None,
    tokenizer: Path | None = None,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    dtype: Any = np.float32,
    seed: int = 0,
    allow_nonfinite: bool = False,
) -> tuple[VDiffSRConfig, dict[str, Any], list[dict[str, Any]], list[str]]:
    """(config, items, sources, notes) of a model whose output is the denoiser's own: what is new adds zero.

    Without `var` and `tokenizer` it is a plain ResShift or SinSR. New parts (CoGU, CSPA, read-out, LoRA) are drawn from
    `seed`.
    Args: preset: of the denoiser. settings: of VDiffSRConfig, in the place of what the files tell. allow_nonfinite:
        accept NaN and infinity.
    Raises: ConversionError or ConfigError if a file is not what its flag says, or they do not fit together.
    """
    from vdiffsr_jax.models.prior import prior_class
    from vdiffsr_jax.models.vdiffsr import from_unet

    if (var is None) != (tokenizer is None):
        raise ConversionError("the prior needs both --var and --tokenizer")
    settings = dict(settings or {})
    if var is None and settings.get("prior") is not None:
        raise ConversionError("a prior is configured but there is no VAR: give --var and --tokenizer")
    prior = settings.get("prior") or {}
    nested = {name: settings.get(name) for name in ("denoiser", "schedule", "first_stage", "prior")}
    if isinstance(prior, Mapping):
        nested |= {f"prior.{name}": prior.get(name) for name in ("var", "tokenizer")}
    for name, value in nested.items():  # before they are taken apart
        if not isinstance(value or {}, Mapping):
            raise ConfigError(f"{name}={value!r} must be a mapping of settings")

    own: dict[str, Any] = {key: settings[key] for key in ("denoiser", "schedule") if key in settings}
    how = {"dtype": dtype, "allow_nonfinite": allow_nonfinite}
    unet = _convert(denoiser, "swin_unet", preset, own, how)
    stage = _convert(first_stage, "vqgan", None, settings.get("first_stage", {}), how)
    converted = [unet, stage]
    told: dict[str, Any] = {
        "denoiser": to_dict(unet.config.denoiser),
        "schedule": to_dict(unet.config.schedule),
        "first_stage": to_dict(stage.config),
        "prior": None,
    }
    if var is not None and tokenizer is not None:
        trunk = _convert(var, "var", None, prior.get("var", {}), how)
        # The tokenizer's file does not tell its levels; they are VAR's.
        levels = {"patch_nums": list(trunk.config.patch_nums)}
        codes = _convert(tokenizer, "var_tokenizer", None, merge(levels, prior.get("tokenizer") or {}), how)
        converted += [trunk, codes]
        told["prior"] = {"var": to_dict(trunk.config), "tokenizer": to_dict(codes.config)}
    config = parse(VDiffSRConfig, merge(told, settings))

    denoiser_key, prior_key = jax.random.split(jax.random.key(seed))
    items = {"first_stage": stage.params, "denoiser": from_unet(unet.params, config, denoiser_key)}
    if config.prior is not None:
        parts = {"tokenizer": codes.params, "var": trunk.params}
        items["pvar"] = prior_class(config.prior).assemble(parts, config.prior, prior_key)
    notes = [note for each in converted for note in each.notes]
    return config, items, [each.source for each in converted], notes


def _convert(path: Path, kind: str, preset: str | None, settings: Mapping[str, Any], how: dict[str, Any]) -> Converted:
    found = files.parts(path)
    fitting = [part for part in found if part.kind == kind]
    if not fitting:
        kinds = ", ".join(part.kind for part in found)
        flag = _FLAGS.get(found[0].kind)
        hint = f"; give it as {flag}" if flag else ""
        raise ConversionError(f"{_FLAGS[kind]} {path}: this is a {kinds}, not a {kind}{hint}")
    return convert(fitting[0], preset=preset, settings=settings, **how)
