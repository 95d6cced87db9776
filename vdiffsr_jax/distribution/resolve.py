"""What `--ckpt` may be: a folder, a name of the catalogue, a repository of the Hugging Face hub; in this order."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.distribution import catalogue, hub
from vdiffsr_jax.distribution.fetch import Ask, fetch

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?")


def resolve(name: str | os.PathLike[str], *, ask: Ask) -> str:
    """The folder (or bucket's folder) of a model.

    Args: ask: told the terms of a download from the catalogue, says whether to go on.
    Raises: ConfigError if it is none of the three; DownloadError if it cannot be had.
    """
    text = os.fspath(name)
    if _is_here(text):
        return text
    if text in catalogue.entries():
        return str(fetch(text, ask=ask))
    if _is_hub_id(text):
        return str(hub.snapshot(text))
    raise ConfigError(
        f"{text}: no such directory (convert_torch_weights.py --output makes checkpoints), no model of the catalogue "
        f"({', '.join(catalogue.entries())}) and no hub repository ORG/NAME"
    )


def find(name: str, *, ask: Ask) -> str:
    """As `resolve`, but what is none of the three stays what it is: whoever reads it says what is missing there."""
    known = _is_here(name) or name in catalogue.entries() or _is_hub_id(name)
    return resolve(name, ask=ask) if known else name


def _is_here(text: str) -> bool:
    return "://" in text or Path(text).exists()


def _is_hub_id(text: str) -> bool:
    return _HUB_ID.fullmatch(text) is not None and not text.startswith(".")


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
