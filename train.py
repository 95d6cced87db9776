"""Train one network of VDiff-SR: `python train.py --config configs/X.py --workdir DIR [--set key=value ...]`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("train.py needs Python 3.11 to 3.13; this is Python %d.%d" % sys.version_info[:2])  # noqa: UP031

from vdiffsr_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
