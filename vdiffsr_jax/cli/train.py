"""`train.py`: a config file, a directory, a few settings."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from vdiffsr_jax.config import ConfigError, ExpectedError
from vdiffsr_jax.config.ranges import Port, number
from vdiffsr_jax.distribution.resolve import agree, ask_on_terminal, find
from vdiffsr_jax.runtime import compile_cache
from vdiffsr_jax.runtime import processes as distributed
from vdiffsr_jax.training.chain import parse_runs, root_of, with_starts
from vdiffsr_jax.weights import storage

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train one network of VDiff-SR. The same command continues a run that was stopped or killed.",
        epilog=f"Exit codes: {DONE} done, {FAILED} failed, {USAGE} wrong usage, {INTERRUPTED} told to stop and saved "
        "(run the same command to continue).",
    )
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        help="Python file with get_config(), or a name of ours: smoke; FILE:RUN is one run of a chain",
    )
    parser.add_argument("--workdir", help="where checkpoints, logs and samples go (made if needed); may be gs://")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="override a setting, such as batch_size=16 or model.cspa.cross=false; may be repeated",
    )
    parser.add_argument("--check", action="store_true", help="check settings, paths and what init_from has, then stop")
    parser.add_argument("--yes", action="store_true", help="download named models of init_from without asking")
    time = parser.add_mutually_exclusive_group()
    time.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="train for so long instead of the config's steps: runs divide the time by their `share`, steps.json in "
        "the workdir says how many steps each took, and the same command goes on with what is left",
    )
    time.add_argument("--hours", type=float, metavar="N", help="the same in hours")
    parser.add_argument("--steps", metavar="FILE", help="the steps.json of a timed chain, which repeats it")
    compile_cache.add_flag(parser)
    parser.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="trace these steps into WORKDIR/profile, for TensorBoard's profiler or Perfetto",
    )
    watch = parser.add_argument_group("watching")
    watch.add_argument(
        "--metrics_port",
        type=number(Port),
        metavar="PORT",
        help="serve step, loss, images/s, data wait, last save as Prometheus text at /metrics, and /healthz, on all "
        "interfaces; every process its own",
    )
    watch.add_argument(
        "--stall_minutes",
        type=float,
        metavar="N",
        help="tell it, with every thread's stack, if no step, evaluation or save ends in so long; /healthz is 503 then",
    )
    distributed.add_flags(parser)
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train.py`; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return train(args)
    except Exception as error:  # noqa: BLE001  (whatever it is, the other processes must not wait for this one)
        if args.verbose or not isinstance(error, (ExpectedError, OSError)):
            traceback.print_exc()
        print(f"train.py: {error}", file=sys.stderr)
        code = USAGE if isinstance(error, ConfigError) else FAILED
        distributed.end_job(code)
        return code


def profile_steps(text: str | None) -> tuple[int, int] | None:
    """ "10:12" -> (10, 12). Raises: ConfigError."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ConfigError(f"--profile {text}: write FIRST:LAST, two step numbers such as 10:12")
    return int(first), int(last)


def train(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then touch the devices."""
    from vdiffsr_jax.evaluation.held_out import WholePairs
    from vdiffsr_jax.training import sequence
    from vdiffsr_jax.training.sharding import use_cpu_devices
    from vdiffsr_jax.training.watch import Watch

    many = args.distributed or args.coordinator is not None
    if many and args.workdir is None:
        raise ConfigError("--workdir is needed: one directory that all processes see")
    profile = profile_steps(args.profile)
    minutes = args.minutes if args.hours is None else 60 * args.hours
    if minutes is not None and not 0 <= minutes < math.inf:
        raise ConfigError(f"--{'minutes' if args.hours is None else 'hours'} must be at least 0, and finite")
    if args.stall_minutes is not None and not args.stall_minutes > 0:
        raise ConfigError(f"--stall_minutes {args.stall_minutes:g} must be above 0")
    if args.steps and not storage.place(args.steps).exists():
        raise ConfigError(f"--steps {args.steps}: no such file")
    steps = sequence.read_steps(storage.place(args.steps)) if args.steps else None
    configs = parse_runs(args.config, args.workdir, args.settings)
    names = [path.name for path in configs]
    if steps is not None and not steps.keys() & set(names):
        raise ConfigError(f"--steps {args.steps} is of runs {', '.join(steps)}; none is of {', '.join(names)}")
    by_name = functools.partial(find, ask=agree if args.yes else ask_on_terminal)
    if args.check:
        return check(configs, by_name)
    configs = with_starts(configs, by_name)
    use_cpu_devices(configs.values())
    compile_cache.use(args.compile_cache)
    distributed.join(args, pass_on_sigterm=True)
    watch = Watch(None if args.stall_minutes is None else 60 * args.stall_minutes)
    with watch.watching(args.metrics_port):
        done = sequence.run(
            configs,
            root_of(configs),
            seconds=None if minutes is None else 60 * minutes,
            steps=steps,
            profile=profile,
            open_pairs=WholePairs,
            watch=watch,
        )
    return DONE if len(done) == len(configs) else INTERRUPTED


def check(configs: Mapping[epath.Path, Any], by_name: Callable[[str], str]) -> int:
    """Open every path that the runs would need, and say all that is missing or does not fit.

    What an earlier run of a chain will write need not be there yet. Raises: ConfigError with one line for each problem.
    """
    from vdiffsr_jax.data.photos import Broken
    from vdiffsr_jax.data.sources import open_source
    from vdiffsr_jax.evaluation.held_out import WholePairs
    from vdiffsr_jax.training import named

    problems = []
    for cfg in configs.values():
        problems += _check_starts(cfg, configs, by_name)
        try:
            named.check(cfg)
        except ExpectedError as error:
            problems.append(str(error))
        if cfg.eval.every and cfg.eval.pairs:
            try:
                WholePairs(cfg.eval.pairs.hr, cfg.eval.pairs.lr)
            except ExpectedError as error:
                problems.append(str(error))
        for flag in ("sources", "valid_sources", "lr_sources", "valid_lr_sources"):
            for path in getattr(cfg.data, flag):
                try:
                    open_source(path, Broken())
                except ExpectedError as error:
                    problems.append(f"data.{flag}: {error}")
    if problems:
        lines = "\n  ".join(problems)
        raise ConfigError(f"{len(problems)} of the run's paths and settings cannot be used:\n  {lines}")
    for cfg in configs.values():
        print(f"{cfg.task}: configuration and paths checked, nothing was trained")
    return DONE


def _check_starts(cfg: Any, made: Collection[epath.Path], by_name: Callable[[str], str]) -> list[str]:
    """What is wrong with init_from, but for what the runs in `made` write, and with the task if all of it is here."""
    from vdiffsr_jax.training import tasks
    from vdiffsr_jax.weights.checkpoint import read_config

    problems, found = [], {}
    named = {flag: name for flag, name in vars(cfg.init_from).items() if name is not None}
    for flag, name in named.items():
        if any(storage.place(name).is_relative_to(path) for path in made):
            continue
        try:
            found[flag] = by_name(name)
            read_config(found[flag])
        except ExpectedError as error:
            problems.append(f"init_from.{flag}: {error}")
    if not problems and found.keys() == named.keys():
        try:  # uses no device
            tasks.make(dataclasses.replace(cfg, init_from=dataclasses.replace(cfg.init_from, **found)))
        except ExpectedError as error:
            problems.append(str(error))
    return problems


if __name__ == "__main__":
    sys.exit(main())
