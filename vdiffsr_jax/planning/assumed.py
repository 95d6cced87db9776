"""Weights that a plan does not need: a checkpoint that is not here is replaced by its configuration alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.weights.description import FORMAT
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
    """(kind, configuration) of what a flag of init_from may name in a run that trains `model`, by the kinds' records.

    The first kind whose configuration is a part of `model`, or fits beside it; else the defaults of the first.
    """
    accepted = kinds.accepted(flag)
    for kind in accepted:
        record = kinds.KINDS[kind]
        config = _part(model, record.config)
        if config is None and type(model) in record.beside:
            config = record.beside[type(model)](model)
        if config is not None:
            return kind, config
    kind = next(iter(accepted))
    return kind, kinds.KINDS[kind].config()


def _part(config: Any, cls: type) -> Any:
    """The first instance of `cls` in a configuration, None if there is none."""
    if isinstance(config, cls):
        return config
    parts = (_part(part, cls) for part in vars(config).values() if dataclasses.is_dataclass(part))
    return next((part for part in parts if part is not None), None)
