"""What the data commands share: errors as one line, and the data settings from a config file or from flags."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import ConfigError, ExpectedError, parse, to_dict
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.data.config import DEGRADATIONS, DataConfig


def run(work: Callable[[], int], *, verbose: bool = False) -> int:
    """The exit code of `work`; 2 and one line on stderr where configuration or data are wrong."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        return work()
    except ExpectedError as error:
        if verbose:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """--config, --input, --degradation, --crop-size."""
    parser.add_argument("--config", type=Path, help="training config, configs/X.py: its data settings")
    parser.add_argument("--input", help="folder of photos, list file or shards, instead of the config's")
    parser.add_argument("--degradation", choices=DEGRADATIONS, help="instead of the config's (default realesrgan)")
    parser.add_argument("--crop-size", type=int, help="HR pixels, instead of the config's (default 256)")


def data_config(args: argparse.Namespace) -> DataConfig:
    """The settings that the flags of `add_data_flags` ask for.

    Raises: ConfigError if there is neither --config nor --input, or the config file has no data settings.
    """
    if not args.config and not args.input:
        raise ConfigError("give --input PHOTOS or --config configs/X.py")
    settings: dict[str, Any] = {}
    if args.config:
        data = read_config_file(args.config).get("data")
        if data is None:
            raise ConfigError(f"--config {args.config}: its get_config() has no 'data'")
        settings = to_dict(data) if dataclasses.is_dataclass(data) else dict(data)
    if args.input:
        settings["sources"] = (args.input,)
    for name in ("degradation", "crop_size"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    return parse(DataConfig, settings, "data.")
