"""Command line of evaluate.py."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.distribution.resolve import agree, ask_on_terminal, resolve
from vdiffsr_jax.evaluation.command import parser, run
from vdiffsr_jax.metrics.catalog import listing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Refusals are one line; what nobody foresaw keeps its trace, too."""
    p = parser()
    p.add_argument("--yes", action="store_true", help="download named models of --ckpt without asking")
    args = p.parse_args(arguments)
    try:
        if args.list_metrics:
            print("\n".join(listing(args.weights)))
            return 0
        args.ckpt = [_found(text, args.yes) for text in args.ckpt]
        return run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ExpectedError as error:
        return _told(error, str(error), error.exit_code, trace=args.verbose)
    except Exception as error:  # noqa: BLE001  (a fault of ours: its trace, and a last line like all others)
        return _told(error, f"{type(error).__name__}: {error}", 1, trace=True)


def _told(error: Exception, message: str, code: int, *, trace: bool) -> int:
    if trace:
        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    return code


def _found(text: str, yes: bool) -> str:
    """NAME=MODEL, or MODEL by its own name, with the model's folder in its place; half of a pair stays as it is."""
    name, equals, model = text.partition("=")
    if not (model if equals else name):
        return text
    folder = resolve(model if equals else name, ask=agree if yes else ask_on_terminal)
    return f"{name if equals else Path(name).name}={folder}"
