"""Folders that may be local or in a bucket (gs://)."""

from __future__ import annotations

import os

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


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether the path names a bucket."""
    return "://" in os.fspath(path)
