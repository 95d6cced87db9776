"""Upscale photos x4: `python sample.py -i photos -o results --ckpt DIR` (see --help)."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("sample.py needs Python 3.11 to 3.13; this is Python %d.%d" % sys.version_info[:2])  # noqa: UP031

from vdiffsr_jax.cli.sample import main

if __name__ == "__main__":
    sys.exit(main())
