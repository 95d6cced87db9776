"""What evaluate.py takes and does: also what the ablation asks for after its runs."""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vdiffsr_jax.evaluation import models, pairs
from vdiffsr_jax.evaluation.cases import LEAST, Cases
from vdiffsr_jax.evaluation.models import Entry
from vdiffsr_jax.evaluation.protocol import DEGRADATIONS, Protocol, read_cases
from vdiffsr_jax.evaluation.run import SHEET, SHEET_PHOTOS, Evaluation, Method, evaluate
from vdiffsr_jax.evaluation.scores import Scorer, choose
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.niqe import Pristine
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.sampling.bundled import bundled_model
from vdiffsr_jax.sampling.files import UsageError, find, printable
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.tile_model import SAMPLERS
from vdiffsr_jax.weights import storage

_LEAST_CELL = 32
_DESCRIPTION = """\
Score pictures: photos degraded and upscaled by models (--photos), models on given LR and HR pictures (--hr, --lr), or
any method's results beside HR (--pairs, no model needed)."""
_EPILOG = """\
writes OUTPUT/table.md (means, with the rules and the weights' SHA-256), scores.csv (every picture) and sheet.png
exit codes: 0 all done, 1 some pictures were left out, 2 wrong usage, 130 interrupted
examples:
  python evaluate.py --photos photos/valid --ckpt one-step=runs/distill/best --ckpt teacher=runs/teacher/best \\
      --steps teacher:15 --output results/evaluation
  python evaluate.py --pairs RealSR/HR OSEDiff=RealSR/OSEDiff --scores stablesr --output results/realsr
  python evaluate.py --hr RealSR/HR --lr RealSR/LR --ckpt ours=runs/distill/best --scores stablesr --output results"""


def parser() -> argparse.ArgumentParser:
    """Every flag with its default."""
    p = argparse.ArgumentParser(
        prog="evaluate.py", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--photos", help="HR photos to degrade: folder, file or quoted glob")
    p.add_argument("--pairs", nargs="+", metavar=("HR_FOLDER", "NAME=SR_FOLDER"),
                   help="HR pictures, then results of methods, matched by name")  # fmt: skip
    p.add_argument("--hr", help="HR pictures, taken whole, with --lr")
    p.add_argument("--lr", help="LR pictures of the same names: with --hr, or with --photos and --degradation paired")
    p.add_argument("--output", type=storage.on_disk, help="folder of the results")
    p.add_argument("--scores", default="default", choices=tuple(RULES), help="rules of scoring (default: default)")
    p.add_argument("--metrics", metavar="NAME,NAME", help="default: all whose weights are there (see --list-metrics)")
    p.add_argument("--weights", type=Path, default=Path("checkpoints"), metavar="DIR",
                   help="where metrics' weights lie (default: checkpoints)")  # fmt: skip
    p.add_argument("--perceptual", action="append", default=[], metavar="DIR",
                   help="a metric's network, in the place of that in --weights; may be repeated")  # fmt: skip
    p.add_argument("--niqe", type=Path, help="NIQE's pristine parameters, .npz or .mat, likewise "
                   "(your own: python -m vdiffsr_jax.metrics.niqe --fit)")  # fmt: skip
    p.add_argument("--list-metrics", action="store_true", help="say what is there and how to get the rest")
    p.add_argument("--ckpt", action="append", default=[], metavar="NAME=MODEL",
                   help="folder, catalogue name or ORG/NAME, under its name in the table; repeatable")  # fmt: skip
    p.add_argument(
        "--steps", action="append", default=[], metavar="NAME:N", help="denoising steps of a model, if not 1"
    )
    p.add_argument("--fidelity", action="append", default=[], metavar="NAME:0..1",
                   help="of a model with two ends, if not its own; the same model may have several names")  # fmt: skip
    p.add_argument("--sampler", default="ancestral", choices=SAMPLERS, help="for several steps (default: ancestral)")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the models' computation")
    p.add_argument("--degradation", default="fixed", choices=tuple(DEGRADATIONS), help="of the photos (default: fixed)")
    p.add_argument("--crop", type=int, help="HR pixels a side of the photos' centre crops, 0: whole (default: the "
                   "rules', 512 for `default`, else whole)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="of degradation and sampling (default: 0)")
    p.add_argument("--sheet", action="append", metavar="PHOTO",
                   help=f"picture on the sheet (default: the first {SHEET_PHOTOS}); may be repeated")  # fmt: skip
    p.add_argument("--sheet-size", type=int, default=256, help="pixels a side of the sheet's cells (default: 256)")
    p.add_argument("--verbose", action="store_true", help="show tracebacks")
    return p


def check(args: argparse.Namespace) -> None:
    """What can be told wrong before pictures are decoded and models read.

    Raises: UsageError, MetricError, CheckpointError, NiqeError.
    """
    modes = [flag for flag in ("photos", "pairs", "hr") if getattr(args, flag) is not None]
    if len(modes) != 1 or args.output is None:
        raise UsageError("give --output and one of --photos PHOTOS, --hr HR --lr LR, --pairs HR NAME=SR (see --help)")
    if args.output.exists() and not args.output.is_dir():
        raise UsageError(f"--output {args.output} is a file; give a folder")
    if args.seed < 0 or (args.crop and args.crop < LEAST):
        raise UsageError(f"--crop {args.crop} must be 0 or at least {LEAST} and --seed {args.seed} at least 0")
    if args.sheet_size < _LEAST_CELL:
        raise UsageError(f"--sheet-size {args.sheet_size} must be at least {_LEAST_CELL}")
    if args.photos is None and (args.degradation != "fixed" or args.crop is not None):
        raise UsageError("--degradation and --crop are for --photos; --hr and --pairs take pictures as they are")
    if (args.lr is not None) != (args.degradation == "paired" or args.hr is not None):
        raise UsageError("--lr and --degradation paired belong together, as do --hr and --lr: give both or neither")
    if args.pairs is not None:
        if args.ckpt or args.steps or args.fidelity:
            raise UsageError("--pairs compares what is in folders; models go with --hr and --lr")
        if len(args.pairs) < 2:
            raise UsageError("--pairs needs the HR folder and at least one NAME=SR_FOLDER")
        pairs.parse_folders(args.pairs[1:], taken=("HR",))
    given = {"photos": args.photos, "hr": args.hr, "pairs": args.pairs and args.pairs[0]}[modes[0]]
    names = [printable(relative) for _, relative in find(given)]
    if args.photos is None:
        names = [str(Path(name).with_suffix("")) for name in names]
    if unknown := [name for name in args.sheet or [] if name not in names]:
        raise UsageError(f"--sheet {unknown[0]}: no such picture; there are {', '.join(names)}")
    choose(_asked(args), _weights(args))


def run(args: argparse.Namespace) -> int:
    """Evaluate and write the results; returns the exit code.

    Raises: as `check`, and SamplingError.
    """
    check(args)
    checkpoints = args.ckpt or ([] if args.pairs else [f"bundled={bundled_model()}"])
    entries = models.parse_entries(checkpoints, args.steps, args.fidelity)
    models.check(entries)
    rules, weights = RULES[args.scores], _weights(args)
    keys, missing = choose(_asked(args), weights)
    for key in missing:
        print(f"{catalog.METRICS[key].column} left out: no weights in {args.weights} (--list-metrics)", file=sys.stderr)
    scorer = Scorer.load(keys, rules, weights)
    kinds: Counter[str] = Counter()

    def failed(name: str, kind: str, why: str) -> None:
        kinds[kind] += 1
        print(f"{name}: {why}; left out", file=sys.stderr)

    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {args.output}: {error.strerror or error}") from None
    cases, methods, progress = _pictures(args, entries, failed)
    if not len(cases):
        print("error: no picture could be used", file=sys.stderr)
        return 1
    text = f"{cases.text} {rules.describe()} {scorer.describe()}".rstrip()
    if scorer.distances and cases.has_lr:
        text += " In brackets: ratio to bicubic's."
    try:
        how = {"on_sheet": args.sheet, "size": args.sheet_size}
        done = evaluate(cases, methods, scorer, text, failed=failed, keep=lambda rows: rows.write(args.output), **how)
    finally:
        progress.close()
    done.write(args.output)
    _summarise(done, len(cases), args.output, kinds)
    return 1 if kinds else 0


def _pictures(
    args: argparse.Namespace, entries: Sequence[Entry], failed: pairs.Failed
) -> tuple[Cases, list[Method], Progress]:
    if args.pairs:
        folders = pairs.parse_folders(args.pairs[1:])
        cases, results = pairs.read_results(args.pairs[0], folders, failed)
        methods = [Method(name, lambda cases, read=read: read) for name, read in results.items()]  # type: ignore[misc]
        return cases, methods, Progress(0, sys.stderr)
    if args.hr:
        cases = pairs.read_whole(args.hr, args.lr, failed)
    else:
        crop = RULES[args.scores].crop if args.crop is None else args.crop or None
        protocol = Protocol(crop=crop, degradation=args.degradation, seed=args.seed)
        cases = read_cases(args.photos, protocol, lr=args.lr, failed=failed)
    progress = Progress(len(cases) * len(entries), sys.stderr)
    settings = {"seed": args.seed, "sampler": args.sampler, "dtype": args.dtype, "progress": progress}
    methods = [
        Method(entry.name, functools.partial(models.opened, entry, **settings), entry.steps) for entry in entries
    ]
    return cases, methods, progress


def _asked(args: argparse.Namespace) -> list[str] | None:
    return None if args.metrics is None else [key.strip() for key in args.metrics.split(",")]


def _weights(args: argparse.Namespace) -> dict[str, Path]:
    """Weights by metric: those named, before those that lie in --weights."""
    named: dict[str, Path] = {}
    for directory in map(Path, args.perceptual):
        key = catalog.network_key(directory)
        if key in named:
            raise UsageError("--perceptual: two checkpoints of one network would share a column")
        named[key] = directory
    if args.niqe:
        Pristine.load(args.niqe)
        named["niqe"] = args.niqe
    return catalog.find(args.weights) | named


def _summarise(done: Evaluation, pictures: int, output: Path, kinds: Counter[str]) -> None:
    print(done.markdown())
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    left_out = f", {kinds.total()} left out ({counted})" if kinds else ""
    print(f"{pictures} pictures{left_out}; results in {output} (see {SHEET})")
