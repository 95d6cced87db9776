"""Command line of sampling: photos in, photos four times as large out."""

from __future__ import annotations

import argparse
import math
import os
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdiffsr_jax import __version__
from vdiffsr_jax.config import COLOR_FIXES, ExpectedError
from vdiffsr_jax.distribution.resolve import agree, ask_on_terminal, resolve
from vdiffsr_jax.photos.kinds import EXTENSIONS, format_of
from vdiffsr_jax.photos.write import write_whole
from vdiffsr_jax.runtime import compile_cache, streams
from vdiffsr_jax.runtime import processes as distributed
from vdiffsr_jax.runtime.signals import Terminated, stopping
from vdiffsr_jax.sampling import files
from vdiffsr_jax.sampling.bundled import BUNDLED_MODEL, bundled_model
from vdiffsr_jax.sampling.files import PhotoTask, UsageError
from vdiffsr_jax.sampling.progress import Progress, showing
from vdiffsr_jax.sampling.results import ResultList, Work, fingerprint, own_results
from vdiffsr_jax.weights import storage

if TYPE_CHECKING:
    from vdiffsr_jax.sampling.batch_job import BatchJob

# Of `upscaler.Settings`, by their flags.
_SETTINGS = ("steps", "seed", "sampler", "overlap", "stride", "blend", "color_fix", "fidelity")
_EPILOG = """\
exit codes: 0 all done, 1 some inputs failed, 2 wrong usage, 130 interrupted, 143 terminated (what was finished stays)
again: results made before from the same inputs by the same model and settings are kept, the rest is done; the list of
  them is OUTPUT/.vdiffsr_results.jsonl, and what it names is never an input
kept: EXIF (orientation applied), XMP, ICC profile, density, alpha, 16 bits, grey; JPEG and BMP hold no
  alpha (flattened on white), JPEG, WebP and BMP hold 8 bits, BMP holds no EXIF, no XMP and no ICC profile
example: python sample.py -i photos -o results --ckpt checkpoints/vdiffsr"""


def parser() -> argparse.ArgumentParser:
    """Every flag with its default."""
    p = argparse.ArgumentParser(
        prog="sample.py", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("-i", "--input", required=True, nargs="+", metavar="INPUT",
                   help="photos, folders (without sub-folders), quoted globs, or 'examples'; gs:// too")  # fmt: skip
    p.add_argument("-o", "--output", default="results",
                   help="folder of the results (default: results), or a file's name for a single input")  # fmt: skip
    model = p.add_argument_group("model")
    model.add_argument(
        "--ckpt",
        "--ckpt1",
        dest="ckpt",
        help="folder, name (such as sinsr) or hub's ORG/NAME; default: the small bundled model",
    )
    model.add_argument("--yes", action="store_true", help="download a named model without asking")
    model.add_argument("--ckpt2", help="checkpoint (or its item pvar) whose PyramidVAR replaces the one of --ckpt1")
    model.add_argument("--scale", type=int, default=4, help="what the model does; only 4 (see --outscale)")
    model.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the computation")
    model.add_argument("--devices", type=int, help="how many local devices share the tiles (default: all)")
    compile_cache.add_flag(model)
    how = p.add_argument_group("sampling")
    steps = how.add_mutually_exclusive_group()
    steps.add_argument("--steps", type=int, default=1,
                       help="denoising steps: 1, 4 or all of the model's schedule (default: 1)")  # fmt: skip
    steps.add_argument("--one_step", dest="steps", action="store_const", const=1, help="the same as --steps 1")
    how.add_argument("--sampler", default="ancestral", choices=("ancestral", "deterministic"),
                     help="for several steps: ResShift's posterior (default) or SinSR's noise-free chain")  # fmt: skip
    how.add_argument("--seed", type=int, default=0, help="of each photo's noise field")
    how.add_argument("--overlap", type=int, help="LR pixels shared by neighbouring tiles (default: 8, or half a tile)")
    how.add_argument("--stride", type=int, help="LR pixels from tile to tile, instead of --overlap")
    how.add_argument("--tile", type=int, help="LR pixels of a tile's side, for models without a prior")
    how.add_argument("--blend", default="cosine", choices=("cosine", "uniform"), help="of overlapping tiles")
    how.add_argument("--batch", type=int, help="tiles at once (default: 1 per CPU device, 8 per accelerator)")
    how.add_argument("--color_fix", choices=COLOR_FIXES, help="colours of the input (default: as the checkpoint says; "
                     "converted SinSR and ResShift say none)")  # fmt: skip
    how.add_argument("--fidelity", type=float, metavar="0..1", help="1: faithful to the photo, 0: sharp, for models "
                     "that hold both (default: as the checkpoint says)")  # fmt: skip
    out = p.add_argument_group("results")
    out.add_argument("--outscale", type=float, default=4.0, help="final scale, resampled after x4 (default: 4)")
    out.add_argument("--format", choices=(*EXTENSIONS, "same"), help="default: png, or what -o FILE says")
    out.add_argument("--quality", type=int, default=95, help="1..100 of JPEG and WebP (WebP: 100 is lossless)")
    out.add_argument("--suffix", default="", help="put after each name")
    exist = out.add_mutually_exclusive_group()
    exist.add_argument("--skip_existing", action="store_true", help="leave photos out whose result exists")
    exist.add_argument("--overwrite", action="store_true", help="replace results that exist")
    out.add_argument("--compare", action="store_true", help="also write before/after sheets to OUTPUT/compare")
    out.add_argument("-r", "--references", help="folder of HR photos of the same names: PSNR, SSIM, OUTPUT/metrics.csv")
    out.add_argument("--max_megapixels", type=float, default=32.0, help="larger inputs are refused (default: 32)")
    out.add_argument("--verbose", action="store_true", help="show tracebacks")
    distributed.add_flags(p)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Refusals are one line; what nobody foresaw keeps its trace, too."""
    args = parser().parse_args(arguments)
    with streams.lasting(), stopping():
        try:
            return _sample(args)
        except (KeyboardInterrupt, Terminated) as stop:
            how, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
            print(f"{how}; finished results stay, and the same command goes on", file=sys.stderr)
            return code
        except ExpectedError as error:
            if args.verbose:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except Exception as error:  # noqa: BLE001  (what nobody foresaw: its trace, and a last line like all others)
            traceback.print_exc()
            print(
                f"error: {type(error).__name__}: {error} (a fault of this program: its trace is above)", file=sys.stderr
            )
            return 1


def _sample(args: argparse.Namespace) -> int:
    _check(args)
    process, processes = distributed.join(args, pass_on_sigterm=False)
    if processes > 1:
        distributed.work_alone()
    asked = storage.location(args.output)
    # Whether -o is a file's name decides where the list of results lies, which decides what the inputs are.
    folder = asked.parent if format_of(asked) and not asked.is_dir() else asked
    own = ResultList(folder, None if processes == 1 else process)
    inputs, notes = files.find_all(args.input, own_results(own))
    for note in notes if process == 0 else ():
        print(note, file=sys.stderr)
    folder, name, format = files.destination(asked, len(inputs), args.format)
    tasks = files.plan(inputs, folder, format=format, suffix=args.suffix, name=name)
    sheets = files.sheets(tasks, folder) if args.compare else {}
    references = files.references(tasks, inputs, args.references) if args.references else None
    tasks = tasks[process::processes]
    if not tasks:
        print(f"fewer photos than the {processes} processes: nothing to do for process {process}")
        return 0
    directory = resolve(args.ckpt, ask=agree if args.yes else ask_on_terminal) if args.ckpt else bundled_model()
    work = _work(args, directory)
    ready = _ready(args, tasks, own, work)
    shown = all(sheets[task].exists() for task in ready if sheets)
    if len(ready) == len(tasks) and references is None and shown:
        print(f"nothing to do: {_ready_said(args, len(ready))}; results in {folder}")
        return 0
    _make(folder)
    if not args.ckpt:
        print(f"no --ckpt: using the small bundled model {BUNDLED_MODEL}", file=sys.stderr)

    compile_cache.use(args.compile_cache)
    from vdiffsr_jax.sampling.batch_job import BatchJob, Output
    from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

    upscaler = Upscaler.load(
        directory,
        prior=args.ckpt2,
        dtype=args.dtype,
        devices=args.devices,
        batch=args.batch,
        tile=args.tile,
    )
    if args.scale != upscaler.config.scale:
        raise UsageError(f"--scale {args.scale}: this model does x{upscaler.config.scale}; use --outscale for others")
    if upscaler.config.is_shuffled and (ready or processes > 1):
        raise UsageError(
            "prior.mode=shuffled takes the prior of the next photo in the list: upscale them all in one process, and "
            "with --overwrite where results exist"
        )
    settings = Settings(**{name: getattr(args, name) for name in _SETTINGS})
    upscaler.check(settings)
    output = Output(
        scale=args.outscale,
        quality=args.quality,
        compare=sheets,
        max_pixels=args.max_megapixels * 1e6,
        announce=lambda target, source: own.adding(target, source, work),
    )
    progress = Progress(len(tasks), sys.stderr)
    job = BatchJob(upscaler, settings, output, progress, references)
    with showing(progress):
        job.run(tasks, ready)
    if references is not None:
        print(job.report.markdown() if job.report.rows else "no photo could be scored")
        table = folder / ("metrics.csv" if processes == 1 else f"metrics_{process}.csv")
        write_whole(table, [job.report.csv().encode()])
    return _summarise(args, job, folder)


def _work(args: argparse.Namespace, directory: str | Path) -> Work:
    """What the results depend on besides their inputs."""
    names = [*_SETTINGS, "tile", "dtype", "outscale", "quality"]
    models = [fingerprint(directory), *([fingerprint(args.ckpt2)] if args.ckpt2 else [])]
    return {name: getattr(args, name) for name in names} | {"model": models, "version": __version__}


def _ready(args: argparse.Namespace, tasks: Sequence[PhotoTask], own: ResultList, work: Work) -> Collection[PhotoTask]:
    """The tasks whose results are there and stay.

    Raises: UsageError if results exist of which it is not said what shall become.
    """
    if args.overwrite:
        return []
    existing = [task for task in tasks if task.target.exists()]
    if args.skip_existing:
        return existing
    done = {task for task in existing if own.is_done(task.source, task.target, work)}
    if others := [task for task in existing if task not in done]:
        raise UsageError(
            f"{len(others)} results exist that are not known to be of these inputs, settings and model, such as "
            f"{others[0].target}; choose --skip_existing or --overwrite"
        )
    return done


def _ready_said(args: argparse.Namespace, count: int) -> str:
    if args.skip_existing:
        return f"{count} skipped (their results exist)"
    return f"{count} done before (by the same model and settings; --overwrite does them again)"


def _make(folder: Path) -> None:
    if storage.is_remote(folder):  # has no folders to make
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise UsageError(f"-o {folder} is not writable")


def _summarise(args: argparse.Namespace, job: BatchJob, folder: Path) -> int:
    parts = [f"{job.done} upscaled"]
    if job.skipped:
        parts.append(_ready_said(args, job.skipped))
    if job.failures:
        parts.append(f"{len(job.failures)} failed")
    if job.unscored:
        parts.append(f"{len(job.unscored)} not scored")
    print(f"{', '.join(parts)}; results in {folder}")
    return 1 if job.failures or job.unscored else 0


def _check(args: argparse.Namespace) -> None:
    """What can be told wrong before a model is read."""
    if args.ckpt2 and not args.ckpt:
        raise UsageError("--ckpt2 needs --ckpt1, the checkpoint whose prior it replaces")
    if not 0 < args.outscale <= 64:
        raise UsageError(f"--outscale {args.outscale} must be above 0 and at most 64")
    if not 1 <= args.quality <= 100:
        raise UsageError(f"--quality {args.quality} must lie in 1..100")
    if not 0 < args.max_megapixels < math.inf:
        raise UsageError(f"--max_megapixels {args.max_megapixels} must be above 0, and finite")
    if any(character in args.suffix for character in "/\\\0"):
        raise UsageError(f"--suffix {args.suffix!r} must not hold a path")
