"""`train.py`: a config file, a directory, a few settings."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.config_file import read_config_file

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train one network of VDiff-SR. The same command continues a run that was stopped or killed.",
        epilog=f"Exit codes: {DONE} done, {FAILED} failed, {USAGE} wrong usage, {INTERRUPTED} told to stop and saved "
        "(run the same command to continue).",
    )
    parser.add_argument("--config", required=True, type=Path, help="Python file with get_config(), see configs/")
    parser.add_argument("--workdir", type=Path, help="where checkpoints, logs and samples go (made if needed)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="override a setting, such as batch_size=16 or model.cspa.cross=false; may be repeated",
    )
    parser.add_argument("--check", action="store_true", help="check the configuration, then stop")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train.py`; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return train(args)
    except (ConfigError, OSError, RuntimeError, ValueError) as error:
        if args.verbose:
            traceback.print_exc()
        print(f"train.py: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else FAILED


def runs(values: Mapping[str, Any], workdir: Path | None) -> dict[Path, Mapping[str, Any]]:
    """{directory: settings}: one run, or a chain {name: settings} in directories of their own.

    In a chain, "{workdir}" in any text stands for the directory of the whole; a temporary one if none is given.
    Raises: ConfigError if a single run has no directory.
    """
    if "task" in values:
        if workdir is None:
            raise ConfigError("--workdir is needed: the directory for checkpoints, logs and samples")
        return {workdir: values}
    chain = workdir or Path(tempfile.mkdtemp(prefix="vdiffsr_"))
    if workdir is None:
        print(f"results in {chain}")
    return {chain / name: _filled(settings, str(chain)) for name, settings in values.items()}


def _filled(value: Any, workdir: str) -> Any:
    if isinstance(value, str):
        return value.replace("{workdir}", workdir)
    if isinstance(value, Mapping):
        return {name: _filled(part, workdir) for name, part in value.items()}
    return value


def train(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then touch the devices."""
    import jax

    from vdiffsr_jax.training.config import parse_train, with_settings
    from vdiffsr_jax.training.loop import Run

    values = with_settings(read_config_file(args.config), [])
    for workdir, settings in runs(values, args.workdir).items():
        cfg = parse_train(with_settings(settings, args.settings))
        if args.check:
            print(f"{cfg.task}: configuration checked, nothing was trained")
            continue
        if cfg.mesh.cpu_devices:
            jax.config.update("jax_num_cpu_devices", cfg.mesh.cpu_devices)
        print(f"{cfg.task}: {workdir}", flush=True)
        if Run(cfg, workdir).run().interrupted:
            return INTERRUPTED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
