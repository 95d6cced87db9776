"""Which code made a checkpoint."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import jax

import vdiffsr_jax


@functools.cache
def code_version() -> str:
    """Package version, git commit (with + if files were changed) where there is one, and JAX's version."""
    root = Path(vdiffsr_jax.__file__).parents[1]

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        commit = "no git"
    return f"vdiffsr_jax {vdiffsr_jax.__version__} ({commit}), jax {jax.__version__}"
