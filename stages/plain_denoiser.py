"""The denoiser of the model in the box, its faithful end, without CoGU and CSPA: where an ablation begins.

    python -m stages.plain_denoiser --output runs/plain

`init_from.denoiser` of configs/box_ablation.py takes it.
"""

from __future__ import annotations

import argparse

import jax.numpy as jnp

from stages import command
from vdiffsr_jax.models.kinds import DenoiserConfig
from vdiffsr_jax.sampling.bundled import bundled_model
from vdiffsr_jax.weights import checkpoint


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.run(parser, _write)


def _write(args: argparse.Namespace) -> None:
    box = checkpoint.load_model(bundled_model(), items=["denoiser"], dtype=jnp.float32)
    config = DenoiserConfig(box.config.denoiser, box.config.schedule)
    checkpoint.save_model(args.output, {"swin_unet": box.items["denoiser"]["unet"]}, kind="swin_unet", config=config)


if __name__ == "__main__":
    main()
