"""Score models on photos: centre crops, degraded, upscaled, compared with bicubic and with the photo itself."""

from __future__ import annotations

import argparse
import functools
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from vdiffsr_jax.cli.sample import BUNDLED_MODEL
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.evaluation import models
from vdiffsr_jax.evaluation.models import Entry
from vdiffsr_jax.evaluation.protocol import DEGRADATIONS, LEAST, Protocol, read_cases
from vdiffsr_jax.evaluation.run import SHEET, Evaluation, Method, evaluate
from vdiffsr_jax.evaluation.scores import Distance, Scorer
from vdiffsr_jax.metrics.niqe import NiqeError, Pristine
from vdiffsr_jax.sampling.files import UsageError, find
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.tile_model import SAMPLERS
from vdiffsr_jax.sampling.upscaler import SamplingError
from vdiffsr_jax.weights.checkpoint import CheckpointError

_LEAST_CELL = 32
_EPILOG = """\
writes OUTPUT/table.md (means, with the protocol), scores.csv (every image) and sheet.png, in place of earlier ones
exit codes: 0 all done, 1 some photos failed, 2 wrong usage, 130 interrupted
example: python evaluate.py --photos photos/valid --ckpt one-step=runs/distill/best --ckpt teacher=runs/teacher/best \\
  --steps teacher:15 --perceptual runs/efficientnet_lite0 --output results/evaluation"""


def parser() -> argparse.ArgumentParser:
    """Every flag with its default."""
    p = argparse.ArgumentParser(
        prog="evaluate.py", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--photos", required=True, help="HR photos: folder, file or quoted glob")
    p.add_argument("--output", type=Path, required=True, help="folder of the results")
    p.add_argument("--ckpt", action="append", default=[], metavar="NAME=DIR",
                   help="a model under its name in the table; may be repeated; default: the bundled one")  # fmt: skip
    p.add_argument(
        "--steps", action="append", default=[], metavar="NAME:N", help="denoising steps of a model, if not 1"
    )
    p.add_argument("--sampler", default="ancestral", choices=SAMPLERS, help="for several steps (default: ancestral)")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the models' computation")
    p.add_argument("--degradation", default="fixed", choices=tuple(DEGRADATIONS), help="of the photos (default: fixed)")
    p.add_argument("--lr", help="LR halves, for --degradation paired: files of the photos' names")
    p.add_argument("--crop", type=int, default=512, help="HR pixels a side of the centre crops (default: 512)")
    p.add_argument("--seed", type=int, default=0, help="of degradation and sampling (default: 0)")
    p.add_argument("--perceptual", action="append", default=[], metavar="DIR",
                   help="checkpoint of a perceptual network, a column each: LPIPS, or feature distance")  # fmt: skip
    p.add_argument("--niqe", type=Path, help="pristine parameters, .npz or .mat: a column NIQE "
                   "(make them with python -m vdiffsr_jax.metrics.niqe --fit)")  # fmt: skip
    p.add_argument(
        "--sheet", action="append", metavar="PHOTO", help="photo on the sheet (default: all); may be repeated"
    )
    p.add_argument("--sheet-size", type=int, default=256, help="pixels a side of the sheet's cells (default: 256)")
    p.add_argument("--verbose", action="store_true", help="show tracebacks")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and prints no traceback unless --verbose."""
    args = parser().parse_args(arguments)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (UsageError, CheckpointError, ConfigError, SamplingError, NiqeError) as error:
        message, code = str(error), 2
    except Exception as error:  # noqa: BLE001  (a person gets a line, not a traceback)
        message, code = f"{type(error).__name__}: {error} (--verbose shows where)", 1
    if args.verbose:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code


def check(args: argparse.Namespace) -> None:
    """What can be told wrong before photos are decoded and models read.

    Raises: UsageError, CheckpointError, NiqeError.
    """
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output} is a file; give a folder")
    if args.crop < LEAST or args.seed < 0:
        raise UsageError(f"--crop {args.crop} must be at least {LEAST} and --seed {args.seed} at least 0")
    if args.sheet_size < _LEAST_CELL:
        raise UsageError(f"--sheet-size {args.sheet_size} must be at least {_LEAST_CELL}")
    if (args.lr is not None) != (args.degradation == "paired"):
        raise UsageError("--lr and --degradation paired belong together: give both or neither")
    names = [relative.as_posix() for _, relative in find(args.photos)]
    if unknown := [name for name in args.sheet or [] if name not in names]:
        raise UsageError(f"--sheet {unknown[0]}: no such photo; there are {', '.join(names)}")
    columns = [Distance.column_of(directory) for directory in args.perceptual]
    if len(set(columns)) < len(columns):
        raise UsageError("--perceptual: two checkpoints of one network would share a column")
    if args.niqe:
        Pristine.load(args.niqe)


def _run(args: argparse.Namespace) -> int:
    check(args)
    entries = models.parse_entries(args.ckpt or [_bundled()], args.steps)
    models.check(entries)
    pristine = Pristine.load(args.niqe) if args.niqe else None
    protocol = Protocol(crop=args.crop, degradation=args.degradation, seed=args.seed)
    failures: list[str] = []

    def failed(name: str, why: str) -> None:
        failures.append(name)
        print(f"{name}: {why}; left out", file=sys.stderr)

    cases = read_cases(args.photos, protocol, lr=args.lr, failed=failed)
    scorer = Scorer(protocol.border, pristine, [Distance.load(directory) for directory in args.perceptual])
    progress = Progress(len(cases) * len(entries), sys.stderr)
    methods = [_method(entry, args, progress) for entry in entries]
    try:
        done = evaluate(
            cases, methods, protocol, scorer, on_sheet=args.sheet, size=args.sheet_size, failed=failed
        )  # fmt: skip
    finally:
        progress.close()
    if done is None:
        print("error: no photo could be used", file=sys.stderr)
        return 1
    done.write(args.output)
    _summarise(done, args.output, failures)
    return 1 if failures else 0


def _method(entry: Entry, args: argparse.Namespace, progress: Progress) -> Method:
    images = functools.partial(
        models.results, entry, seed=args.seed, sampler=args.sampler, dtype=args.dtype, progress=progress
    )
    return Method(entry.name, images, entry.steps)


def _summarise(done: Evaluation, output: Path, failures: Sequence[str]) -> None:
    print(done.markdown())
    left_out = f", {len(failures)} left out ({', '.join(failures)})" if failures else ""
    print(f"{len(done.cases)} photos{left_out}; results in {output} (see {SHEET})")


def _bundled() -> str:
    if not BUNDLED_MODEL.is_dir():
        raise UsageError(f"this installation has no bundled model ({BUNDLED_MODEL}); give --ckpt NAME=DIRECTORY")
    return f"bundled={BUNDLED_MODEL}"
