"""A configuration as the runs it asks for: one, or a chain of several."""

from __future__ import annotations

import dataclasses
import graphlib
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath
from ml_collections import ConfigDict

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.weights import storage

if TYPE_CHECKING:
    from vdiffsr_jax.training.config import TrainConfig


def parse_runs(
    config: str | os.PathLike[str] | Mapping[str, Any] | ConfigDict,
    workdir: str | os.PathLike[str] | None,
    settings: Sequence[str],
) -> dict[epath.Path, TrainConfig]:
    """{directory: configuration} of every run that `vdiffsr_jax.train` is asked for with these arguments."""
    from vdiffsr_jax.training.config import parse_train
    from vdiffsr_jax.training.settings import with_settings

    values = config if isinstance(config, Mapping | ConfigDict) else read_config_file(config)
    asked = runs(with_settings(values, []), None if workdir is None else os.fspath(workdir))
    return {path: parse_train(with_settings(each, settings)) for path, each in asked.items()}


def with_starts(configs: Mapping[epath.Path, TrainConfig], find: Callable[[str], str]) -> dict[epath.Path, TrainConfig]:
    """What init_from names, but for what the runs themselves will make, as the directories that `find` gives."""

    def found(cfg: TrainConfig) -> TrainConfig:
        starts = {
            flag: find(name)
            for flag, name in vars(cfg.init_from).items()
            if name is not None and not any(name.startswith(f"{path}/") for path in configs)
        }
        return dataclasses.replace(cfg, init_from=dataclasses.replace(cfg.init_from, **starts))

    return {path: found(cfg) for path, cfg in configs.items()}


def root_of(runs: Collection[epath.Path]) -> epath.Path:
    """The directory of the whole: a single run's own, or the one that the runs of a chain lie in."""
    paths = list(runs)
    return paths[0] if len(paths) == 1 else paths[0].parent


def runs(values: Mapping[str, Any], workdir: str | None) -> dict[epath.Path, Mapping[str, Any]]:
    """{directory: settings}: one run, or a chain {name: settings} in directories of their own.

    A chain is run in the order of what starts from what. In it, "{workdir}" in any text stands for the directory of the
    whole; a temporary one if none is given. In a single run of a chain it is the folder around the run's own.
    Raises: ConfigError if a single run has no directory, or runs start from each other.
    """
    if "task" in values:
        if workdir is None:
            raise ConfigError("--workdir is needed: the directory for checkpoints, logs and samples")
        place = storage.place(workdir)
        return {place: _filled(values, str(place.parent))}
    chain = storage.place(workdir or tempfile.mkdtemp(prefix="vdiffsr_"))
    if workdir is None:
        print(f"results in {chain}")
    return {chain / name: _filled(values[name], str(chain)) for name in _order(values)}


def _order(values: Mapping[str, Any]) -> list[str]:
    """Names of a chain, each after those it starts from: a ConfigDict does not keep the order it was written in."""
    init_from = {name: dict(settings.get("init_from") or {}).values() for name, settings in values.items()}
    starts = {
        name: [other for other in values if any(f"{{workdir}}/{other}/" in str(place) for place in places)]
        for name, places in init_from.items()
    }
    try:
        return list(graphlib.TopologicalSorter(starts).static_order())
    except graphlib.CycleError as error:
        raise ConfigError(f"the runs of a chain start from each other: {', '.join(error.args[1])}") from None


def _filled(value: Any, workdir: str) -> Any:
    if isinstance(value, str):
        return value.replace("{workdir}", workdir)
    if isinstance(value, Mapping):
        return {name: _filled(part, workdir) for name, part in value.items()}
    return value
