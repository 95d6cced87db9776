"""`python -m vdiffsr_jax.distribution`: the code is `vdiffsr_jax.cli.model`."""

import sys

from vdiffsr_jax.cli.model import main

if __name__ == "__main__":
    sys.exit(main())
