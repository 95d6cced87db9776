"""A run's directory: whose it is, and with which configuration it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.training.config import TrainConfig


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value before, value now) of the settings that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in (*before, *(key for key in now if key not in before)):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield name, before, now


def prepare(workdir: epath.Path, cfg: TrainConfig) -> None:
    """Make the directory. Raises: ConfigError if it holds a run of another task or network, or cannot be written."""
    file = workdir / "config.json"
    now = to_dict(cfg)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        before = json.loads(file.read_text()) if file.exists() else now
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
        (workdir / "config.json").write_text(json.dumps(to_dict(cfg), indent=2) + "\n")
