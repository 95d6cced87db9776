"""Train a model for every setting of some switches, then score all of them in one table.

python -m vdiffsr_jax.evaluation.ablation --config configs/X.py --workdir runs/ablation --switch cogu=true,false \\
  --switch prior.mode=teacher_forced,shuffled -- --photos photos/valid --perceptual runs/efficientnet_lite0
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.config_file import SWITCHES, read_config_file
from vdiffsr_jax.evaluation import command as evaluate
from vdiffsr_jax.evaluation import models
from vdiffsr_jax.evaluation.grid import Cell, cells, parse_switch
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.weights import storage
from vdiffsr_jax.weights.versions import CONFIG_FILE
from vdiffsr_jax.weights.whole import is_left

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75
RECORD = "ablation.json"
_STOPPED = (INTERRUPTED, 130, -signal.SIGINT, -signal.SIGTERM)
_EPILOG = f"""\
Each run has a folder of its own below WORKDIR; finished ones are not trained again, stopped ones continue.
What follows -- goes to evaluate.py (more --ckpt NAME=DIR are more rows; --output is WORKDIR/evaluation by default).
exit codes: {DONE} all done, {FAILED} some runs or photos failed, {USAGE} wrong usage, {INTERRUPTED} told to stop and \
saved (run the same command to continue)"""


def parser() -> argparse.ArgumentParser:
    """Every flag with its default."""
    p = argparse.ArgumentParser(
        prog="python -m vdiffsr_jax.evaluation.ablation",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--config",
        required=True,
        type=Path,
        help="of train.py, task teacher or distill: what all runs share; FILE:RUN is one of the chain in WORKDIR",
    )
    p.add_argument("--workdir", required=True, type=Path, help="folder of the runs and of the evaluation")
    p.add_argument("--switch", action="append", required=True, metavar="NAME=VALUE,VALUE",
                   help=f"values to try; may be repeated; names: {', '.join(SWITCHES)}")  # fmt: skip
    p.add_argument("--one-at-a-time", action="store_true",
                   help="the first value of each switch, then each other value alone")  # fmt: skip
    p.add_argument("--steps", type=int, help="training steps of every run, instead of the config's")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                   help="as of train.py, for all runs; may be repeated")  # fmt: skip
    p.add_argument("--best", action="store_true", help="score each run's best model instead of its last")
    p.add_argument("--dry-run", action="store_true", help="list the commands, run nothing")
    p.add_argument("--verbose", action="store_true", help="show tracebacks")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. What is no refusal of ours leaves with its trace."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    own, theirs = arguments, []
    if "--" in arguments:
        own, theirs = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    args = parser().parse_args(own)
    try:
        return ablate(args, theirs)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except (ExpectedError, OSError) as error:
        if args.verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ExpectedError) else FAILED


def ablate(args: argparse.Namespace, evaluate_arguments: Sequence[str]) -> int:
    """Check everything, train what is not finished, evaluate what is; returns the exit code.

    Raises: UsageError, CheckpointError, NiqeError.
    """
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps {args.steps} must be at least 1")
    grid = cells([parse_switch(text) for text in args.switch], one_at_a_time=args.one_at_a_time)
    shared = [*args.settings, *([f"steps={args.steps}"] if args.steps else [])]
    config = _config(args.config)
    commands = {cell: train_command(args.config, args.workdir / cell.name, [*shared, *cell.settings]) for cell in grid}
    records = {cell: {"settings": [*shared, *cell.settings], "config": config} for cell in grid}
    open_cells = [cell for cell in grid if not _finished(args.workdir / cell.name, records[cell])]
    evaluation = evaluate_command(args, grid, evaluate_arguments)
    if args.dry_run:
        for cell in grid:
            print(f"# {cell.name}: {'to train' if cell in open_cells else 'finished'}\n{shlex.join(commands[cell])}")
        print(f"# all\n{shlex.join([sys.executable, 'evaluate.py', *evaluation])}")
        return DONE
    _check_evaluation(args, grid, evaluate_arguments)
    _check_runs({cell: commands[cell] for cell in open_cells})

    failed: list[Cell] = []
    for i, cell in enumerate(grid, 1):
        folder = args.workdir / cell.name
        if cell not in open_cells:
            print(f"{i}/{len(grid)} {cell.name}: finished before", flush=True)
            continue
        print(f"{i}/{len(grid)} {cell.name}: training in {folder}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        storage.write_text(storage.place(folder / RECORD), json.dumps(records[cell], indent=2) + "\n")
        code = run(commands[cell])
        if code in _STOPPED:
            print(f"stopped in {cell.name}; the same command continues", file=sys.stderr)
            return INTERRUPTED
        if code == USAGE:
            raise UsageError(f"{cell.name}: training refuses it, see above")
        if code:
            print(f"{cell.name}: training failed (exit code {code}); left out of the table", file=sys.stderr)
            failed.append(cell)
    which = _scored(args)
    for cell in grid:
        if cell not in failed and not _has_model(args.workdir / cell.name, which):
            print(f"{cell.name}: its run has left no {which}; left out of the table", file=sys.stderr)
            failed.append(cell)
    trained = [cell for cell in grid if cell not in failed]
    if not trained:
        raise OSError("no run of the grid could be trained")
    code = evaluate.run(evaluate.parser().parse_args(evaluate_command(args, trained, evaluate_arguments)))
    return code or (FAILED if failed else DONE)


def train_command(config: Path, workdir: Path, settings: Sequence[str]) -> list[str]:
    """train.py as a process of its own."""
    flags = [part for setting in settings for part in ("--set", setting)]
    train = [sys.executable, "-m", "vdiffsr_jax.cli.train"]
    return [*train, "--config", str(config), "--workdir", str(workdir), *flags]


def evaluate_command(args: argparse.Namespace, grid: Sequence[Cell], more: Sequence[str]) -> list[str]:
    """Flags of evaluate.py: a row a run, then what the person gave."""
    rows = [part for cell in grid for part in ("--ckpt", f"{cell.name}={args.workdir / cell.name / _scored(args)}")]
    return ["--output", str(args.workdir / "evaluation"), *rows, *more]


def run(command: Sequence[str]) -> int:
    """The exit code of a command; Ctrl-C and SIGTERM reach it, and it is waited for while it saves."""
    child = subprocess.Popen(command)
    previous = signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    try:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, previous)


def _config(file: Path) -> Any:
    """What the config file says, as plain values: a cell trained with anything else is not taken for finished."""
    plain = json.loads(json.dumps(read_config_file(file), default=str))
    if not isinstance(plain, dict) or plain.get("task") not in ("teacher", "distill"):
        raise UsageError(
            f"--config {file} must be one run of task teacher or distill (FILE:RUN of a chain): the switches are theirs"
        )
    return plain


def _scored(args: argparse.Namespace) -> str:
    """Which of a run's models is scored."""
    return "best" if args.best else "model"


def _has_model(folder: Path, which: str) -> bool:
    return (folder / which / CONFIG_FILE).is_file()


def _finished(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the run is done.

    Raises: UsageError if the folder holds a run with other settings.
    """
    if not folder.is_dir() or all(map(is_left, folder.iterdir())):
        return False
    try:
        before = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        raise UsageError(
            f"{folder} is not of an ablation ({RECORD} is missing or damaged); use another --workdir"
        ) from None
    if before != record:
        changed = [name for name in record if before.get(name) != record[name]]
        raise UsageError(
            f"{folder} was trained with other {' and '.join(changed)}; use another --workdir, or remove it"
        )
    return _has_model(folder, "model")


def _check_evaluation(args: argparse.Namespace, grid: Sequence[Cell], more: Sequence[str]) -> None:
    """What evaluate.py would refuse, before hours of training."""
    asked = evaluate.parser().parse_args(evaluate_command(args, grid, more))
    evaluate.check(asked)
    entries = models.parse_entries(asked.ckpt, asked.steps, asked.fidelity)
    models.check([entry for entry in entries if entry.name not in {cell.name for cell in grid}])


def _check_runs(commands: Mapping[Cell, Sequence[str]]) -> None:
    """What train.py would refuse, likewise."""
    for cell, command in commands.items():
        done = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip().rpartition("\n")[2].strip() or f"exit code {done.returncode}"
            raise UsageError(f"{cell.name}: {why.removeprefix('train.py: ')}")


if __name__ == "__main__":
    sys.exit(main())
