"""Converts published PyTorch files to checkpoints of this package: see `convert_torch_weights.py --help`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("convert_torch_weights.py needs Python 3.11 to 3.13; this is Python %d.%d" % sys.version_info[:2])  # noqa: UP031

from vdiffsr_jax.cli.convert import main

if __name__ == "__main__":
    sys.exit(main())
