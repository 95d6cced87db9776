"""What a weights file or a checkpoint holds, in lines: names, shapes, dtypes, and what would become of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.conversion import recognise, weights_file
from vdiffsr_jax.conversion.convert import Part, configure, doubts, dropped
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.weights.checkpoint import load_lazily, read_config


def inspect(path: Path, preset: str | None = None, settings: Mapping[str, Any] | None = None) -> list[str]:
    """The listing of a file, also of one that is not recognised, or of a checkpoint directory.

    Raises: WeightsFileError or CheckpointError if it cannot be read.
    """
    if path.is_dir():
        return _checkpoint(path)
    lines = [f"{path}  sha256 {weights_file.source(path)['sha256']}"]
    notes: list[str] = []
    for where, tensors in weights_file.read(path, notes).items():
        lines += _state_dict(path, where, tensors, preset, settings or {})
    return lines + notes


def _state_dict(
    path: Path, where: str, tensors: weights_file.StateDict, preset: str | None, settings: Mapping[str, Any]
) -> list[str]:
    title = f"{path} ({where})" if where else str(path)
    reasons: dict[str, str] = {}
    try:
        kind = recognise.kind_of(tensors, title)
        part = Part(path, where, kind, tensors)
        config, notes = configure(part, preset, settings)
        reasons = dropped(part, config)
        notes += [
            f"note: {doubt}; this is refused without --config" for doubt in doubts(part, config, preset, settings)
        ]
        told = f"configuration: {json.dumps(to_dict(config))}"
        lines = [f"{title}: {recognise.KINDS[kind].what} ({kind})", *notes, told]
    except (ConversionError, ConfigError) as error:
        lines = [f"{title}: not convertible as it is: {error}"]
    width = max(map(len, tensors))
    for name, tensor in tensors.items():
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        reason = f"  dropped: {reasons[name]}" if name in reasons else ""
        lines.append(f"  {name:{width}}  {shape:>16}  {tensor.dtype!s:8}{reason}")
    total = sum(tensor.size for tensor in tensors.values())
    return [*lines, f"{len(tensors)} tensors, {total / 1e6:.1f} M numbers"]


def _checkpoint(path: Path) -> list[str]:
    kind, config, sources = read_config(path)
    lines = [f"{path}: checkpoint ({kind})", f"configuration: {json.dumps(to_dict(config))}"]
    lines += [f"from {json.dumps(source)}" for source in sources]
    for item in kinds.item_names(kind, config):
        for name, array in flatten(load_lazily(path, item)).items():
            shape = "x".join(map(str, array.shape)) or "scalar"
            lines.append(f"  {item}/{name}  {shape}  {array.dtype}")
    return lines
