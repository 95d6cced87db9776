"""Command line of evaluate.py."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.evaluation.command import parser, run
from vdiffsr_jax.metrics.catalog import MetricError, listing
from vdiffsr_jax.metrics.niqe import NiqeError
from vdiffsr_jax.sampling.errors import SamplingError
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.weights.checkpoint import CheckpointError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and prints no traceback unless --verbose."""
    args = parser().parse_args(arguments)
    try:
        if args.list_metrics:
            print("\n".join(listing(args.weights)))
            return 0
        return run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (UsageError, MetricError, CheckpointError, ConfigError, SamplingError, NiqeError) as error:
        message, code = str(error), 2
    except Exception as error:  # noqa: BLE001  (a person gets a line, not a traceback)
        args.verbose = True  # nobody foresaw it: the trace is needed
        message, code = f"{type(error).__name__}: {error}", 1
    if args.verbose:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code
