"""What a checkpoint says of itself, DIR/config.json, and what lies in a directory that is none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from vdiffsr_jax.config import ConfigError, ExpectedError
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params, flatten
from vdiffsr_jax.weights import json_object, storage, versions
from vdiffsr_jax.weights.versions import CONFIG_FILE

# Format 1: CSPA's same-scale branch read the level's map drawn out to the stage's size. Format 2: it reads the level's
# own cells, so a bias table of the same shape means other places. All else of format 1 computes what it did.
FORMAT = 2
READABLE = (1, 2)

_FIELDS: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: isinstance(value, str),
    "config": lambda value: isinstance(value, dict),
    "sources": lambda value: isinstance(value, list) and all(isinstance(source, dict) for source in value),
    versions.FOLDER: lambda value: isinstance(value, str) and re.fullmatch(r"(v\d+)?", value) is not None,
}


class CheckpointError(ExpectedError, ValueError):
    """A checkpoint cannot be written or read; the message names the directory and says what to do."""


class Description(NamedTuple):
    """`config` is the dataclass of `kind`; `place`: where the networks lie; `format`: of the checkpoint."""

    kind: str
    config: Any
    sources: list[dict[str, Any]]
    place: epath.Path
    format: int


def described(path: epath.Path) -> Description:
    """All that config.json says, checked. Raises: CheckpointError."""
    file = path / CONFIG_FILE
    if not path.is_dir() or not file.is_file() or _is_run(path):
        raise CheckpointError(_no_checkpoint(path))
    try:
        content = json_object.read(file)
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    if (found := content.get("format")) not in READABLE:
        raise CheckpointError(f"{file} has format {found!r}; this version reads {' and '.join(map(str, READABLE))}")
    content = {versions.FOLDER: ""} | content
    if wrong := [name for name, fits in _FIELDS.items() if not fits(content.get(name))]:
        raise CheckpointError(f"{file} is damaged: {', '.join(wrong)} is missing, or nothing that this program writes")
    kind, config, sources, folder = (content[name] for name in _FIELDS)
    try:
        return Description(kind, kinds.parse_config(kind, config), sources, path / folder, found)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None


def means_another_branch(found: int, config: Any, denoiser: Params) -> bool:
    """Whether a model's CSPA same-scale branch was trained in format 1: its part of some W_o is not zero any more."""
    if found > 1 or config.prior is None or not config.cspa.same:
        return False
    same = [
        leaf for path, leaf in flatten(denoiser).items() if path.startswith("cspa/") and path.endswith("/w_o/kernel")
    ]
    return any(bool(np.any(np.asarray(kernel[: config.cspa.dim]))) for kernel in same)


def _is_run(path: epath.Path) -> bool:
    """Whether it is the working directory of a training run, whose config.json is the run's."""
    return all((path / name).exists() for name in (CONFIG_FILE, "checkpoints")) or _inside(path) != []


def _inside(path: epath.Path) -> list[str]:
    return [str(path / name) for name in ("best", "model") if (path / name / CONFIG_FILE).is_file()]


def _no_checkpoint(path: epath.Path) -> str:
    """What is there instead, and what to do."""
    if path.is_file():
        name, stem = path.name, path.stem
        if re.search("sinsr|resshift", name, re.IGNORECASE):
            name = f"--denoiser {name} --first-stage autoencoder_vq_f4.pth"
        return (
            f"{path} is a file, not a checkpoint of this project; convert it first: "
            f"python convert_torch_weights.py {name} --output checkpoints/{stem}"
        )
    if not path.is_dir():
        return f"{path}: no such directory (convert_torch_weights.py --output makes checkpoints)"
    if found := _inside(path):
        return f"{path} is not a checkpoint but holds one: give {' or '.join(found)}"
    if _is_run(path):
        return f"{path} is a training run that has written no model yet: {path / 'model'} appears when it ends"
    return f"{path} is no checkpoint: it has no {CONFIG_FILE}"


def check_free(directory: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse to write where something is, before the work rather than after it.

    Raises: CheckpointError, also with `overwrite` if what is there is no checkpoint of ours.
    """
    path = storage.place(directory)
    if versions.is_free(path):
        return
    if not overwrite:
        raise CheckpointError(f"{path} exists; choose another directory or allow overwriting (--overwrite)")
    try:
        described(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; what is there is not overwritten") from None
