"""Compiled programs on disk, so that the second start of the same program compiles nothing."""

from __future__ import annotations

import argparse
import os

from vdiffsr_jax.runtime.cache_folder import cache_folder


def add_flag(parser: argparse._ActionsContainer) -> None:
    """`--compile_cache`."""
    parser.add_argument(
        "--compile_cache", metavar="DIR", help="folder of compiled programs, or 'off' (default: your cache folder)"
    )


def use(choice: str | None) -> None:
    """Keep them where the flag or JAX_COMPILATION_CACHE_DIR says, by default in the user's cache folder."""
    import jax

    if choice == "off":
        jax.config.update("jax_enable_compilation_cache", False)
    elif choice:
        jax.config.update("jax_compilation_cache_dir", choice)
    elif not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
