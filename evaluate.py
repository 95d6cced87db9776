"""Score models on photos: `python evaluate.py --photos DIR --ckpt NAME=DIR --output DIR` (see --help)."""

import sys

from vdiffsr_jax.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
