"""Weights that a plan does not need: a checkpoint that is not here is replaced by its configuration alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import VARConfig, VARTokenizerConfig, VDiffSRConfig, to_dict
from vdiffsr_jax.models.kinds import DenoiserConfig, PerceptualConfig
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.weights.formats import FORMAT
from vdiffsr_jax.weights.versions import CONFIG_FILE


def with_assumed_weights(cfg: TrainConfig, folder: Path) -> tuple[TrainConfig, list[str]]:
    """`cfg` with every missing directory of init_from standing for the network that the run itself expects there.

    Returns: the configuration, and one line for each network that was assumed: its settings are the run's own, a
        teacher has no prior, a perceptual distance is VGG16's.
    """
    changes, lines = {}, []
    for field in dataclasses.fields(cfg.init_from):
        directory = getattr(cfg.init_from, field.name)
        if directory is None or (Path(directory) / CONFIG_FILE).is_file():
            continue
        kind, config = _network(field.name, cfg.model)
        place = folder / field.name
        place.mkdir(parents=True)
        values = {"format": FORMAT, "kind": kind, "config": to_dict(config), "sources": []}
        (place / CONFIG_FILE).write_text(json.dumps(values))
        changes[field.name] = str(place)
        lines.append(f"init_from.{field.name}={directory} is not here; assumed: {kind} as configured")
    return dataclasses.replace(cfg, init_from=dataclasses.replace(cfg.init_from, **changes)), lines


def _network(flag: str, model: Any) -> tuple[str, Any]:
    """(kind, configuration) of what a flag of init_from may hold, for a run that trains `model`."""
    if flag == "perceptual":
        return "perceptual", PerceptualConfig()
    if flag in ("denoiser", "teacher") and isinstance(model, VDiffSRConfig):
        return "swin_unet", DenoiserConfig(model.denoiser, model.schedule)
    if flag == "pvar":
        return "vdiffsr", model
    if isinstance(model, VDiffSRConfig):
        parts: dict[str, tuple[str, Any]] = {"first_stage": ("vqgan", model.first_stage)}
        if model.prior is not None:
            parts |= {"tokenizer": ("var_tokenizer", model.prior.tokenizer), "var": ("var", model.prior.var)}
        return parts[flag]
    if flag == "tokenizer" and isinstance(model, VARConfig):
        return "var_tokenizer", VARTokenizerConfig(
            patch_nums=model.patch_nums, vocab_size=model.vocab_size, z_channels=model.code_dim
        )
    return {"first_stage": "vqgan", "tokenizer": "var_tokenizer", "var": "var"}[flag], model
