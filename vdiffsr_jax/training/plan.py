"""`python -m vdiffsr_jax.training.plan`: the command of `planning.plan` under its documented name."""

import sys

from vdiffsr_jax.planning.plan import main

if __name__ == "__main__":
    sys.exit(main())
