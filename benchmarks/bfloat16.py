"""Whether training in bfloat16 learns what float32 learns: one start, the same samples, three times.

    python -m benchmarks.bfloat16 --config configs/box_first.py --set batch_size=2 --set steps=200

The third run is float32's control: its starting weights are moved once, each by half a bfloat16 rounding (2**-9 of
itself). Where the control is as far from float32 as bfloat16 is, the loss cannot tell rounding from chance. Prints the
mean losses of every tenth of the runs, and how far both are from float32; nothing is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from etils import epath

from benchmarks.command import refusing
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.settings import with_settings

QUIET = ["log_every=1", "eval.every=0", "checkpoint.every=1000000"]
RUNS = {"float32": ("float32", False), "bfloat16": ("bfloat16", False), "control": ("float32", True)}


def moved(params: Flat) -> Flat:
    """Every weight 2**-9 of itself up or down."""
    keys = jax.random.split(jax.random.key(0), len(params))
    signs = {name: jax.random.rademacher(key, params[name].shape) for key, name in zip(keys, params, strict=True)}
    return {name: p * (1 + 2**-9 * signs[name].astype(p.dtype)) for name, p in params.items()}


def losses(config: Path, settings: list[str], dtype: str, control: bool) -> np.ndarray:
    """The loss of every step."""
    cfg = parse_train(with_settings(read_config_file(config), [*settings, *QUIET, f"dtype={dtype}"]))
    with tempfile.TemporaryDirectory() as folder:
        workdir = epath.Path(folder) / dtype
        run = Run(cfg, workdir)
        if control:
            run.state = run.state._replace(params=moved(run.state.params))
        if run.run().interrupted:
            raise SystemExit("stopped: without all of its steps a run tells nothing")
        return np.array([line["loss"] for line in read_log(workdir) if line["kind"] == "train"])


def table(found: dict[str, np.ndarray]) -> list[str]:
    """One line for every tenth of the runs: mean losses, and the distances from float32."""
    lines = [f"{'steps':<12}" + "".join(f"{name:>10}" for name in RUNS) + f"{'bfloat16':>10}{'control':>10}"]
    steps = len(found["float32"])
    for part in np.array_split(np.arange(steps), min(10, steps)):
        exact, rounded, control = (found[name][part].mean() for name in RUNS)
        lines.append(
            f"{part[0] + 1:>4} - {part[-1] + 1:<5}{exact:>10.5g}{rounded:>10.5g}{control:>10.5g}"
            f"{rounded / exact - 1:>10.1%}{control / exact - 1:>10.1%}"
        )
    return lines


@refusing
def main() -> None:
    """Train three times, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="as for train.py")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="as for train.py")
    args = parser.parse_args()
    found = {name: losses(args.config, args.settings, *how) for name, how in RUNS.items()}
    print("\n".join(table(found)))


if __name__ == "__main__":
    sys.exit(main())
