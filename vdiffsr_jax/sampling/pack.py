"""A trained model as small as sampling allows: VAR folded, LoRA merged, numbers in bfloat16.

python -m vdiffsr_jax.sampling.pack runs/vdiffsr_x4/model checkpoints/vdiffsr_small
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import jax.numpy as jnp

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.models.build import cast
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.weights import checkpoint
from vdiffsr_jax.weights.checkpoint import CheckpointError


def pack(source: str, target: str, *, dtype: str = "bfloat16", overwrite: bool = False) -> None:
    """Write `target`, which samples as `source` does to the rounding of `dtype` and cannot be trained further.

    Raises: CheckpointError if `source` is no assembled model or `target` exists and not `overwrite`.
    """
    checkpoint.check_free(target, overwrite=overwrite)
    model = checkpoint.load_model(source, dtype=jnp.float32)
    if model.kind != "vdiffsr":
        raise CheckpointError(f"{source} holds a {model.kind} network alone; only assembled models can be packed")
    items, config = fold_model(model.items, model.config)
    small = {name: cast(params, jnp.dtype(dtype)) for name, params in items.items()}
    checkpoint.save_model(target, small, kind="vdiffsr", config=config, sources=model.sources, overwrite=overwrite)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = argparse.ArgumentParser(
        prog="python -m vdiffsr_jax.sampling.pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", help="directory of an assembled model")
    p.add_argument("target", help="directory to write")
    p.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the stored numbers")
    p.add_argument("--overwrite", action="store_true", help="replace a checkpoint in TARGET")
    args = p.parse_args(argv)
    try:
        pack(args.source, args.target, dtype=args.dtype, overwrite=args.overwrite)
    except (CheckpointError, ConfigError, OSError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
