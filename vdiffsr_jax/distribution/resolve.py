"""What `--ckpt` may be: a folder, a name of the catalogue, a repository of the Hugging Face hub; in this order."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.distribution import catalogue, hub
from vdiffsr_jax.distribution.fetch import Ask, fetch

_HUB_ID = re.compile(r"(?P<organisation>[\w][\w.-]*)/[\w][\w.-]*(?P<revision>@[\w./-]+)?")
_FOLDERS = ("checkpoints", "runs", "stages", "exports")  # as our pages call them


def resolve(name: str | os.PathLike[str], *, ask: Ask) -> str:
    """The folder (or bucket's folder) of a model.

    Args: ask: told the terms of a download from the catalogue, says whether to go on.
    Raises: ConfigError if it is none of the three; DownloadError if it cannot be had.
    """
    found = find(text := os.fspath(name), ask=ask)
    if found == text and not _is_here(text):
        raise ConfigError(
            f"{text}: no such directory (convert_torch_weights.py --output makes checkpoints), no model of the "
            f"catalogue ({', '.join(catalogue.entries())}) and no hub repository ORG/NAME"
        )
    return found


def find(name: str, *, ask: Ask) -> str:
    """As `resolve`, but what is none of the three stays what it is: whoever reads it says what is missing there."""
    if _is_here(name):
        return name
    if name in catalogue.entries():
        return str(fetch(name, ask=ask))
    return str(hub.snapshot(name)) if _is_of_the_hub(name) else name


def _is_of_the_hub(name: str) -> bool:
    """Not what is missing in a folder: nobody wants somebody's `runs/best` for his own that is not there."""
    found = _HUB_ID.fullmatch(name)
    if not found:
        return False
    folder = found["organisation"]
    return bool(found["revision"]) or not (folder in _FOLDERS or Path(folder).is_dir())


def _is_here(text: str) -> bool:
    return "://" in text or Path(text).exists()


def agree(text: str) -> bool:
    """Say the terms and go on."""
    print(text, file=sys.stderr)
    return True


def ask_on_terminal(text: str) -> bool:
    """Say the terms and ask; where nobody can answer, the answer is no."""
    print(text, file=sys.stderr)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("Download? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
