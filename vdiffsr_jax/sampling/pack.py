"""A trained model as small as sampling allows: VAR folded, LoRA merged, numbers in bfloat16, compressed.

python -m vdiffsr_jax.sampling.pack runs/vdiffsr_x4/model checkpoints/vdiffsr_small
python -m vdiffsr_jax.sampling.pack runs/box/distill/best checkpoints/box --sharp runs/box/sharp/best --fidelity 0.4

With --sharp the model has two ends, SOURCE at fidelity 1 and SHARP at 0, or two means of them (--between). Both must
have the same configuration, and the same encoder, codebook and tokenizer. Of the end at 0 the difference to the other
is kept, its kernels in 4 bits or --exact.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.config import ConfigError, SharpConfig, parse, to_dict
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.models.assembled import Items
from vdiffsr_jax.models.build import Params, cast, flatten
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.weights import checkpoint
from vdiffsr_jax.weights.checkpoint import CheckpointError, Model


def pack(
    source: str,
    target: str,
    *,
    sharp: str | None = None,
    between: tuple[float, float] = (0, 1),
    ends: SharpConfig | None = None,
    dtype: str = "bfloat16",
    overwrite: bool = False,
) -> None:
    """Write `target`, which samples as `source` does to the rounding of `dtype` and cannot be trained further.

    Args: sharp: the model at fidelity 0. between: the shares of `source` in the parameters at fidelity 0 and 1, where
        the ends are means of both models. ends: of its settings all but `networks`, which are those that differ.
    Raises: ConfigError for other shares than rising ones in 0..1; CheckpointError if one is no assembled model of one
        end, if the two do not fit each other or do not differ, or if `target` exists and not `overwrite`.
    """
    checkpoint.check_free(target, overwrite=overwrite)
    model = _folded(source)
    config, faithful = model.config, model.items
    if sharp is not None:
        other = _folded(sharp)
        _check_same(source, model, sharp, other)
        if not 0 <= between[0] < between[1] <= 1:
            raise ConfigError(f"--between {between[0]:g} {between[1]:g} must be two rising shares in 0..1")
        low, faithful = (_mean(model.items, other.items, share) for share in between)
    small = {name: cast(params, jnp.dtype(dtype)) for name, params in faithful.items()}
    if sharp is not None:
        pairs = {name: (params, low[name]) for name, params in faithful.items()}
        networks = tuple(name for name, both in pairs.items() if not jax.tree.all(jax.tree.map(np.array_equal, *both)))
        if not networks:
            raise CheckpointError(f"--sharp {sharp}: the same numbers as {source}, so there is nothing between them")
        config = dataclasses.replace(config, sharp=dataclasses.replace(ends or SharpConfig(), networks=networks))
        small["sharp"] = cast(
            {name: jnp.asarray(x) for name, x in fidelity.difference(small, low, config).items()},
            jnp.dtype(dtype),
        )
    checkpoint.save_model(
        target, small, kind="vdiffsr", config=config, sources=model.sources, overwrite=overwrite, compress=True
    )


def _folded(directory: str) -> Model:
    model = checkpoint.load_model(directory, dtype=jnp.float32)
    if model.kind != "vdiffsr":
        raise CheckpointError(f"{directory} holds a {model.kind} network alone; only assembled models can be packed")
    if model.config.sharp is not None:
        raise CheckpointError(f"{directory} was packed from two models, give those")
    items, config = fold_model(model.items, model.config)
    return dataclasses.replace(model, items=items, config=config)


def _mean(a: Items, b: Items, share: float) -> dict[str, Params]:
    """The mean of all parameters; what is the same stays so to the bit."""

    def mix(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x if np.array_equal(x, y) else fidelity.mean(x, y, share)

    return {name: jax.tree.map(mix, params, b[name]) for name, params in a.items()}


def _check_same(source: str, model: Model, sharp: str, other: Model) -> None:
    """Raise CheckpointError unless two models differ in nothing that both ends must share."""
    a, b = to_dict(model.config), to_dict(other.config)
    if wrong := [name for name in a if a[name] != b[name]]:
        raise CheckpointError(f"--sharp {sharp} differs from {source} in the settings of {', '.join(wrong)}")
    for network, params in model.items.items():
        own = fidelity.own_parts(network, params, model.config)
        theirs = flatten(other.items[network])
        for name, leaf in flatten(params).items():
            if name not in own and not np.array_equal(leaf, theirs[name]):
                raise CheckpointError(
                    f"--sharp {sharp}: its {network} is not that of {source}: {name} differs, which both ends share; "
                    "train one from the other"
                )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    p = argparse.ArgumentParser(
        prog="python -m vdiffsr_jax.sampling.pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", help="directory of an assembled model")
    p.add_argument("target", help="directory to write")
    p.add_argument("--sharp", metavar="DIR", help="an assembled model trained on from SOURCE: the end at fidelity 0")
    p.add_argument("--between", type=float, nargs=2, metavar=("LOW", "HIGH"), help="SOURCE's share of the parameters "
                   "in the ends at fidelity 0 and 1, the rest is SHARP's (default: 0 1)")  # fmt: skip
    p.add_argument("--fidelity", type=float, metavar="0..1", help="that samples have by default (default: 0.5)")
    p.add_argument("--exact", action="store_true", help="keep all of the sharp end, not its difference in 4 bits")
    p.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of the stored numbers")
    p.add_argument("--overwrite", action="store_true", help="replace a checkpoint in TARGET")
    args = p.parse_args(argv)
    try:
        if args.sharp is None and (args.exact or args.fidelity is not None or args.between):
            raise ConfigError("--fidelity, --between and --exact are for two models: give the other one with --sharp")
        between = tuple(args.between or (0, 1))
        given = {} if args.fidelity is None else {"fidelity": args.fidelity}
        ends = parse(SharpConfig, {"exact": args.exact, **given}, "sharp.")
        pack(args.source, args.target, sharp=args.sharp, between=between, ends=ends, dtype=args.dtype,
             overwrite=args.overwrite)  # fmt: skip
    except (CheckpointError, ConfigError, OSError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
