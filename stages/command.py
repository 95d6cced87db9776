"""What the commands here share: an output that is free, and refusals in a line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.weights import storage, versions


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> None:
    """Parse the flags and --output, the folder of a new swin_unet checkpoint, then `work`. Exits with 2 if refused."""
    parser.add_argument("--output", required=True, help="folder of the new swin_unet checkpoint")
    args = parser.parse_args()
    try:
        if not versions.is_free(storage.place(args.output)):
            parser.error(f"--output {args.output} exists; choose another folder")
        work(args)
    except (ExpectedError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
