"""Upscale photos x4: `python sample.py -i photos -o results --ckpt DIR` (see --help)."""

import sys

from vdiffsr_jax.cli.sample import main

if __name__ == "__main__":
    sys.exit(main())
