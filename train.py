"""Train one network of VDiff-SR: `python train.py --config configs/X.py --workdir DIR [--set key=value ...]`."""

import sys

from vdiffsr_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
