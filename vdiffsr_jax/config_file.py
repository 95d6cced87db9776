"""Configuration files: Python with a function get_config(), which may import its neighbours."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import ConfigError


def read_config_file(file: Path) -> Any:
    """What the file's `get_config()` returns; modules in the file's own folder can be imported in it.

    Raises: ConfigError if there is no such file, or no such function in it.
    """
    if not file.is_file():
        raise ConfigError(f"--config {file}: no such file")
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        names = runpy.run_path(str(file))
        if "get_config" not in names:
            raise ConfigError(f"--config {file} has no function get_config()")
        return names["get_config"]()
    finally:
        sys.path.remove(folder)
