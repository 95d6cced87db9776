"""Score models on photos: `python evaluate.py --photos DIR --ckpt NAME=DIR --output DIR` (see --help)."""

import sys

from vdiffsr_jax.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main())
