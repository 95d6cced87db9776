"""Command line of sampling: photos in, photos four times as large out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdiffsr_jax.distribution.resolve import agree, ask_on_terminal, resolve
from vdiffsr_jax.photos.kinds import EXTENSIONS
from vdiffsr_jax.photos.write import write_whole
from vdiffsr_jax.runtime import compile_cache
from vdiffsr_jax.runtime import processes as distributed
from vdiffsr_jax.sampling import files
from vdiffsr_jax.sampling.bundled import BUNDLED_MODEL
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.sampling.progress import MessageHandler, Progress

if TYPE_CHECKING:
    from vdiffsr_jax.sampling.batch_job import BatchJob


_EPILOG = """\
exit codes: 0 all done, 1 some inputs failed, 2 wrong usage, 130 interrupted (what was finished stays)
kept: EXIF (orientation applied), ICC profile, alpha, 16 bits, grey; JPEG and BMP hold no alpha (flattened on white),
  JPEG, WebP and BMP hold 8 bits, BMP holds no EXIF and no ICC profile
example: python sample.py -i photos -o results --ckpt checkpoints/vdiffsr"""


def parser() -> argparse.ArgumentParser:
    """Every flag with its default."""
    p = argparse.ArgumentParser(
        prog="sample.py", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "-i",
        "--input",
        required=True,
        help="photo, folder (not its sub-folders), quoted glob, or 'examples'",
    )
    p.add_argument(
        "-o", "--output", type=Path, default=Path("results"), help="folder of the results (default: results)"
    )
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
    steps.add_argument("--steps", type=int, default=1, choices=(1, 4, 15), help="denoising steps (default: 1)")
    steps.add_argument("--one_step", dest="steps", action="store_const", const=1, help="the same as --steps 1")
    how.add_argument("--sampler", default="ancestral", choices=("ancestral", "deterministic"),
                     help="for several steps: ResShift's posterior (default) or SinSR's noise-free chain")  # fmt: skip
    how.add_argument("--seed", type=int, default=0, help="of each photo's noise field")
    how.add_argument("--overlap", type=int, default=8, help="LR pixels shared by neighbouring tiles (default: 8)")
    how.add_argument("--stride", type=int, help="LR pixels from tile to tile, instead of --overlap")
    how.add_argument("--tile", type=int, help="LR pixels of a tile's side, for models without a prior")
    how.add_argument("--blend", default="cosine", choices=("cosine", "uniform"), help="of overlapping tiles")
    how.add_argument("--batch", type=int, help="tiles at once (default: 1 per CPU device, 8 per accelerator)")
    how.add_argument("--color_fix", default="none", choices=("none", "wavelet", "adain"), help="colours of the input")
    out = p.add_argument_group("results")
    out.add_argument("--outscale", type=float, default=4.0, help="final scale, resampled after x4 (default: 4)")
    out.add_argument("--format", default="png", choices=(*EXTENSIONS, "same"), help="default: png")
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
    """Run the command; returns the exit code and prints no traceback unless --verbose."""
    args = parser().parse_args(arguments)
    try:
        return _sample(args)
    except KeyboardInterrupt:
        print("interrupted; finished results stay", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001  (a person gets a line, not a traceback)
        if args.verbose:
            traceback.print_exc()
        message, code = _explain(error)
        print(f"error: {message}", file=sys.stderr)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, UsageError):
        return str(error), 2
    from vdiffsr_jax.config import ConfigError
    from vdiffsr_jax.distribution.download import DownloadError
    from vdiffsr_jax.photos.photo import ImageError
    from vdiffsr_jax.sampling.upscaler import DeviceMemoryError, SamplingError
    from vdiffsr_jax.weights.checkpoint import CheckpointError

    if isinstance(error, (CheckpointError, ConfigError, SamplingError)):
        return str(error), 2
    if isinstance(error, (DeviceMemoryError, DownloadError, ImageError)):
        return str(error), 1
    return f"{type(error).__name__}: {error} (--verbose shows where)", 1


def _sample(args: argparse.Namespace) -> int:
    _check(args)
    process, processes = distributed.join(args, pass_on_sigterm=False)
    if processes > 1:
        distributed.work_alone()
    tasks = files.plan(files.find(args.input), args.output, format=args.format, suffix=args.suffix)
    references = files.references(tasks, args.references) if args.references else None
    tasks = tasks[process::processes]
    if not tasks:
        print(f"fewer photos than the {processes} processes: nothing to do for process {process}")
        return 0
    existing = [task.target for task in tasks if task.target.exists()]
    if existing and not (args.skip_existing or args.overwrite):
        raise UsageError(f"{len(existing)} results exist, such as {existing[0]}; choose --skip_existing or --overwrite")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {args.output} cannot be made: {error.strerror}") from error
    if not os.access(args.output, os.W_OK):
        raise UsageError(f"-o {args.output} is not writable")
    directory = resolve(args.ckpt, ask=agree if args.yes else ask_on_terminal) if args.ckpt else _bundled()

    compile_cache.use(args.compile_cache)
    from vdiffsr_jax.sampling.batch_job import BatchJob, Output
    from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

    upscaler = Upscaler.load(
        directory, prior=args.ckpt2, dtype=args.dtype, devices=args.devices, batch=args.batch, tile=args.tile
    )
    if args.scale != upscaler.config.scale:
        raise UsageError(f"--scale {args.scale}: this model does x{upscaler.config.scale}; use --outscale for others")
    settings = Settings(
        steps=args.steps,
        seed=args.seed,
        sampler=args.sampler,
        overlap=args.overlap,
        stride=args.stride,
        blend=args.blend,
        color_fix=args.color_fix,
    )
    upscaler.check(settings)
    output = Output(
        scale=args.outscale,
        quality=args.quality,
        compare=args.output / "compare" if args.compare else None,
        skip_existing=args.skip_existing,
        max_pixels=round(args.max_megapixels * 1e6),
    )
    progress = Progress(len(tasks), sys.stderr)
    handler, logger = MessageHandler(progress), logging.getLogger("vdiffsr_jax")
    logger.addHandler(handler)
    logger.propagate = False
    job = BatchJob(upscaler, settings, output, progress, references)
    try:
        job.run(tasks)
    finally:
        progress.close()
        logger.removeHandler(handler)
        logger.propagate = True
    table = args.output / ("metrics.csv" if processes == 1 else f"metrics_{process}.csv")
    return _summarise(job, args.output, None if references is None else table)


def _summarise(job: BatchJob, output: Path, table: Path | None) -> int:
    if table is not None:
        print(job.report.markdown())
        write_whole(table, [job.report.csv().encode()])
    skipped = f", {job.skipped} skipped (their results exist)" if job.skipped else ""
    failed = f", {len(job.failures)} failed" if job.failures else ""
    print(f"{job.done} upscaled{skipped}{failed}; results in {output}")
    return 1 if job.failures else 0


def _check(args: argparse.Namespace) -> None:
    """What can be told wrong before a model is read."""
    if args.ckpt2 and not args.ckpt:
        raise UsageError("--ckpt2 needs --ckpt1, the checkpoint whose prior it replaces")
    if not 0 < args.outscale <= 64:
        raise UsageError(f"--outscale {args.outscale} must be above 0 and at most 64")
    if not 1 <= args.quality <= 100:
        raise UsageError(f"--quality {args.quality} must lie in 1..100")
    if args.max_megapixels <= 0:
        raise UsageError(f"--max_megapixels {args.max_megapixels} must be above 0")
    if any(character in args.suffix for character in "/\\\0"):
        raise UsageError(f"--suffix {args.suffix!r} must not hold a path")


def _bundled() -> Path:
    if not BUNDLED_MODEL.is_dir():
        raise UsageError(f"this installation has no bundled model ({BUNDLED_MODEL}); give --ckpt DIRECTORY")
    print(f"no --ckpt: using the small bundled model {BUNDLED_MODEL}", file=sys.stderr)
    return BUNDLED_MODEL
