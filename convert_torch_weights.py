"""Converts published PyTorch files to checkpoints of this package: see `convert_torch_weights.py --help`."""

from vdiffsr_jax.cli.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
