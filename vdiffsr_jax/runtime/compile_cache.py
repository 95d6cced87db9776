"""What is kept between two starts, and where: compiled programs, so that the second compiles nothing."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def cache_folder() -> Path:
    """VDIFFSR_CACHE, or `vdiffsr_jax` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if own := os.environ.get("VDIFFSR_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vdiffsr_jax"


def add_flag(parser: argparse._ActionsContainer) -> None:
    """`--compile_cache`."""
    parser.add_argument(
        "--compile_cache", metavar="DIR", help="folder of compiled programs, or 'off' (default: your cache folder)"
    )


def use(choice: str | None) -> None:
    """Keep them where `choice` says, or do not if it is off; without one, in the user's cache folder.

    Nothing that was chosen before, here, by JAX_COMPILATION_CACHE_DIR or in jax.config, gives way to the user's folder.
    """
    import jax

    if choice == "off":
        jax.config.update("jax_enable_compilation_cache", False)
    elif choice:
        jax.config.update("jax_compilation_cache_dir", choice)
    elif not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
