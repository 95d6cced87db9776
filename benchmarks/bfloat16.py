"""Whether training in bfloat16 learns what float32 learns: one start, the same samples, twice.

    python -m benchmarks.bfloat16 --config configs/box_first.py --set batch_size=2 --set steps=200

Prints the mean loss of every tenth of the run in both, and how far they are apart; nothing is kept.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from etils import epath

from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.training.settings import with_settings

QUIET = ["log_every=1", "eval.every=0", "checkpoint.every=1000000"]


def losses(config: Path, settings: list[str], dtype: str) -> np.ndarray:
    """The loss of every step."""
    cfg = parse_train(with_settings(read_config_file(config), [*settings, *QUIET, f"dtype={dtype}"]))
    with tempfile.TemporaryDirectory() as folder:
        workdir = epath.Path(folder) / dtype
        Run(cfg, workdir).run()
        return np.array([line["loss"] for line in read_log(workdir) if line["kind"] == "train"])


def main() -> None:
    """Train twice, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="as for train.py")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="as for train.py")
    args = parser.parse_args()
    exact, rounded = (losses(args.config, args.settings, dtype) for dtype in ("float32", "bfloat16"))
    print(f"{'steps':<12}{'float32':>10}{'bfloat16':>10}{'apart':>8}")
    for part in np.array_split(np.arange(len(exact)), 10):
        a, b = exact[part].mean(), rounded[part].mean()
        print(f"{part[0] + 1:>4} - {part[-1] + 1:<5}{a:>10.5g}{b:>10.5g}{(b - a) / a:>8.1%}")


if __name__ == "__main__":
    main()
