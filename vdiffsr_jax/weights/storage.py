"""Folders that may be local or in a bucket (gs://)."""

from __future__ import annotations

import argparse
import os
import uuid
from pathlib import Path
from typing import cast

from etils import epath

from vdiffsr_jax.config import ConfigError


def place(path: str | os.PathLike[str]) -> epath.Path:
    """The path, absolute if it is local. Raises: ConfigError if it is in a bucket and nothing here can open buckets."""
    found = epath.Path(path)
    if not is_remote(found):
        return found.absolute()
    try:
        import fsspec

        # Other processes and libraries write there too: what a listing said before is not to be believed.
        fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
        found.exists()
    except ImportError as error:
        raise ConfigError(f"{path}: {error} (pip install gcsfs)") from None
    return found


def location(path: str) -> Path:
    """A file or folder as a person names it, here (~ is the home folder) or in a bucket.

    What is in a bucket is an epath.Path, which has all of pathlib's methods but those about links and resolving.
    Raises: as `place`.
    """
    return cast(Path, place(path)) if is_remote(path) else Path(path).expanduser()


def write_text(file: epath.Path, text: str) -> None:
    """Write the file so that a full disk, or a kill, leaves the one before it whole."""
    if is_remote(file):  # an object is replaced in one piece
        file.write_text(text)
        return
    beside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:12]}.partial")  # of this writer alone
    try:
        beside.write_text(text)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def on_disk(path: str) -> Path:
    """A file or folder as a person names it where only a disk will do; for argparse.

    Raises: argparse.ArgumentTypeError for one in a bucket, which pathlib would make a folder `gs:` of.
    """
    if is_remote(path):
        raise argparse.ArgumentTypeError(f"{path} is in a bucket, and this goes to a disk only: copy it afterwards")
    return Path(path).expanduser()


def identity(path: Path) -> str:
    """One text for one file, whatever links lead to it."""
    return os.fspath(path) if is_remote(path) else os.path.realpath(path)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path names a bucket."""
    return "://" in os.fspath(path)
