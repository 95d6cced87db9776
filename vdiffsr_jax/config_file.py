"""Configuration files: Python with a function get_config() that returns a ConfigDict; they may import neighbours.

They are given as a path, or by the name of one of this project's own: `smoke` for `configs/smoke.py`. A checkout has
them in its `configs/`, an installed package beside its modules. `box:distill` is one run of a chain.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vdiffsr_jax.config import ConfigError

_PACKAGE = Path(__file__).parent
FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # of an installed package, of a checkout

# What an ablation switches, by the name it has in the paper's terms.
SWITCHES = {
    "prior": "model.prior",
    "prior.kind": "model.prior.kind",
    "prior.train": "model.prior.train",
    "prior.mode": "model.prior.mode",
    "cogu": "model.cogu.enabled",
    "cspa.same": "model.cspa.same",
    "cspa.cross": "model.cspa.cross",
    "cspa.levels": "model.cspa.levels",
    "inverse": "loss.use_inverse",
    "decoder.train": "loss.train_decoder",
}


def find_config_file(name: str | os.PathLike[str]) -> Path:
    """The file itself, or this project's own configuration of that name (`smoke`, `smoke.py`, `configs/smoke.py`).

    Raises: ConfigError listing the names there are.
    """
    path = Path(name)
    if path.is_file():
        return path
    folder = next(folder for folder in FOLDERS if folder.is_dir())
    if path.parent in (Path(), Path("configs")) and path.suffix in ("", ".py"):
        found = folder / f"{path.stem}.py"
        if found.is_file():
            return found
    names = ", ".join(sorted(file.stem for file in folder.glob("*.py")))
    raise ConfigError(f"--config {name}: no such file, and none of ours ({names})")


def read_config_file(name: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file's `get_config()` returns, as plain values; it may import from its own folder and ours.

    Of a chain, FILE:RUN is one run.
    Raises: ConfigError as `find_config_file`, if it has no such function or run, or imports what is not there.
    """
    text, run = os.fspath(name), ""
    if not Path(text).is_file() and ":" in text:
        text, _, run = text.rpartition(":")
    file = find_config_file(text)
    # A copy of one of ours may lie anywhere and still import our parts.
    folders = [str(file.resolve().parent), *map(str, FOLDERS)]
    sys.path[:0] = folders
    try:
        names = runpy.run_path(str(file))
        if "get_config" not in names:
            raise ConfigError(f"--config {file} has no function get_config()")
        values = names["get_config"]()
        plain: dict[str, Any] = values.to_dict() if isinstance(values, ConfigDict) else values
        if run and ("task" in plain or run not in plain):
            known = "it is a single run" if "task" in plain else f"its runs: {', '.join(plain)}"
            raise ConfigError(f"--config {file} has no run {run!r}; {known}")
        return plain[run] if run else plain
    except ModuleNotFoundError as error:
        raise ConfigError(f"--config {file} imports {error.name}, which is not installed, nor beside it") from None
    finally:
        for folder in folders:
            sys.path.remove(folder)
