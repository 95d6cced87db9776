"""Where downloads, converted models and compiled programs are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """VDIFFSR_CACHE, or `vdiffsr_jax` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if own := os.environ.get("VDIFFSR_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vdiffsr_jax"
