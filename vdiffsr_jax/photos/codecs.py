"""The packages behind TIFF and 16-bit PNG, imported where such a file is met: nothing else needs them."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

from vdiffsr_jax.photos.photo import ImageError


def _package(name: str, kind: str) -> Any:
    """The package. Raises: ImageError if it is not installed."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise ImageError(f"needs the package {name}, as every {kind} does (pip install {name})") from error
    # Their warnings name no file. What is wrong with one is said by the error that it ends in.
    logging.getLogger(name).setLevel(logging.CRITICAL)
    return package


imagecodecs = functools.cache(lambda: _package("imagecodecs", "16-bit PNG"))
tifffile = functools.cache(lambda: _package("tifffile", "TIFF"))
