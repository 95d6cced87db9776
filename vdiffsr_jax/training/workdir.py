"""A run's directory: whose it is, and with which configuration it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.weights import storage

RECORD = "config.json"


def write_json(file: epath.Path, content: Any) -> None:
    """As `storage.write_text`."""
    storage.write_text(file, json.dumps(content, indent=2) + "\n")


def recorded(workdir: epath.Path) -> dict[str, Any] | None:
    """The configuration that the run in `workdir` went on with, None if there is none.

    Raises: ConfigError if it is damaged.
    """
    file = workdir / RECORD
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{file} is damaged; remove it, and the run goes on from its checkpoints")
    return found


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value before, value now) of the settings that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in (*before, *(key for key in now if key not in before)):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield name, before, now


def prepare(workdir: epath.Path, cfg: TrainConfig) -> None:
    """Make the directory. Raises: ConfigError if it holds a run of another task or network, or cannot be used."""
    now = to_dict(cfg)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        before = recorded(workdir) or now
    except OSError as error:
        raise ConfigError(f"--workdir {workdir} cannot be written: {error.strerror}") from None
    for name in ("task", "model"):
        if before.get(name) != now[name]:
            changes = differences(before.get(name), now[name], name)
            found = "; ".join(f"{key}={there} there, {here} here" for key, there, here in changes)
            raise ConfigError(f"{workdir} holds a run with another {name} ({found}); choose another --workdir")


def record(workdir: epath.Path, cfg: TrainConfig) -> None:
    """Write the configuration that now continues, once the state has accepted it."""
    if jax.process_index() == 0:
        write_json(workdir / RECORD, to_dict(cfg))
