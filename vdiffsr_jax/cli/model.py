"""Models by name: list, fetch, remove; pack one for the Hugging Face hub, push it; export one to other runtimes."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from vdiffsr_jax.config import ConfigError, ExpectedError
from vdiffsr_jax.distribution import catalogue, hub
from vdiffsr_jax.distribution.fetch import fetch, is_fetched, model_folder, remove
from vdiffsr_jax.distribution.resolve import agree, ask_on_terminal, resolve
from vdiffsr_jax.weights import storage

_EPILOG = """\
environment: VDIFFSR_CACHE (folder of downloads and models), VDIFFSR_MIRROR (address that has the files by name),
  HF_ENDPOINT (mirror of the hub), https_proxy and no_proxy
exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was downloaded stays)
example: python -m vdiffsr_jax.distribution fetch sinsr --yes"""


def parser() -> argparse.ArgumentParser:
    """Every command with its flags."""
    p = argparse.ArgumentParser(
        prog="vdiffsr-model", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--verbose", action="store_true", help="show tracebacks")
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the catalogue: what there is, what is here, licences")
    get = commands.add_parser("fetch", help="download and convert a model")
    get.add_argument("name", help="of the catalogue, or ORG/NAME on the hub")
    get.add_argument("--yes", action="store_true", help="agree to size and licence without being asked")
    get.add_argument("--accept-change", action="store_true", help="take files whose hashes are not the known ones")
    drop = commands.add_parser("remove", help="delete a model and downloads that no other model needs")
    drop.add_argument("name")
    pack = commands.add_parser("pack", help="write a checkpoint as .safetensors in torch layout, with a model card")
    pack.add_argument("checkpoint", metavar="DIR")
    pack.add_argument("output", metavar="OUT", type=storage.on_disk)
    pack.add_argument("--license", required=True, help="of the weights, as the hub spells it: apache-2.0, other, ...")
    pack.add_argument("--name", help="the model's name on its card (default: OUT's)")
    pack.add_argument("--data", default="", help="what it was trained on, a sentence or two")
    pack.add_argument("--command", action="append", default=[], dest="made_by", help="that made it; may be repeated")
    pack.add_argument("--scores", type=Path, metavar="TABLE.md", help="of evaluate.py: protocol and table")
    push = commands.add_parser("push", help="upload a packed folder")
    push.add_argument("folder", metavar="OUT", type=Path)
    push.add_argument("repository", metavar="ORG/NAME")
    push.add_argument("--private", action="store_true", help="if the repository has to be made")
    export = commands.add_parser("export", help="write the tile program for jax.export or onnxruntime")
    export.add_argument("checkpoint", metavar="DIR", help="folder, name of the catalogue or ORG/NAME")
    export.add_argument("--format", required=True, choices=("stablehlo", "onnx"))
    export.add_argument("--output", required=True, type=storage.on_disk, metavar="OUT")
    export.add_argument("--steps", type=int, default=1, help="denoising steps (default: 1)")
    export.add_argument("--sampler", default="ancestral", help="of several steps: ancestral or deterministic")
    export.add_argument("--fidelity", type=float, metavar="0..1", help="of a model with two ends (default: its own)")
    export.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the computation")
    export.add_argument(
        "--batch", type=int, default=1, help="tiles at once of an ONNX file (stablehlo takes any number)"
    )
    export.add_argument("--yes", action="store_true", help="download a named model without asking")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. What is no refusal of ours leaves with its trace."""
    args = parser().parse_args(arguments)
    try:
        _run(args)
    except KeyboardInterrupt:
        print("interrupted; what was downloaded stays, the same command goes on", file=sys.stderr)
        return 130
    except (ExpectedError, OSError) as error:
        if args.verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _run(args: argparse.Namespace) -> None:
    if args.command == "list":
        print("\n".join(_listing()))
    elif args.command == "fetch":
        ask = agree if args.yes else ask_on_terminal
        in_catalogue = args.name in catalogue.entries() or "/" not in args.name
        print(fetch(args.name, ask=ask, accept_change=args.accept_change) if in_catalogue else hub.snapshot(args.name))
    elif args.command == "remove":
        gone = remove(args.name)
        print("\n".join(f"removed {path}" for path in gone) or f"{args.name} was not here")
    elif args.command == "pack":
        from vdiffsr_jax.distribution.pack import Card, pack

        card = Card(args.name or args.output.name, args.license, args.data, tuple(args.made_by), args.scores)
        for path in pack(args.checkpoint, args.output, card):
            print(f"wrote {path}")
    elif args.command == "export":
        _export(args)
    else:
        print(hub.push(args.folder, args.repository, private=args.private))


def _export(args: argparse.Namespace) -> None:
    from vdiffsr_jax.distribution import export

    export.check(args.output, args.format, dtype=args.dtype, batch=args.batch)
    directory = resolve(args.checkpoint, ask=agree if args.yes else ask_on_terminal)
    model = export.Exported(directory, steps=args.steps, sampler=args.sampler, dtype=args.dtype, fidelity=args.fidelity)
    if args.format == "stablehlo":
        files = export.stablehlo(model, args.output)
    else:
        files, deviation = export.onnx(model, args.output, batch=args.batch)
        print(f"largest deviation from JAX: {deviation:.2g} in [-1, 1] (refused above {export.TOLERANCE})")
    for path in files:
        print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


def _listing() -> list[str]:
    lines = []
    for name, entry in catalogue.entries().items():
        where = str(model_folder(name)) if is_fetched(name) else f"{sum(p.megabytes for p in entry.parts.values())} MB"
        lines.append(f"{name:<14} {entry.about}; {where}")
        lines.append(f"{'':<14} licences: {'; '.join(entry.licences)}")
        if entry.untrained:
            lines.append(f"{'':<14} note: {entry.untrained}")
        if untried := [part.file for part in entry.parts.values() if not part.tried]:
            lines.append(f"{'':<14} address untried: {', '.join(untried)}")
    return lines
