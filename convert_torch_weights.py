"""Converts published PyTorch files to checkpoints of this package: see `convert_torch_weights.py --help`."""

from vdiffsr_jax.conversion.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
