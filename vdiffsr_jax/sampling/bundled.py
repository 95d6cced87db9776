"""The small model that the package holds."""

from __future__ import annotations

from pathlib import Path

from vdiffsr_jax.sampling.errors import SamplingError

BUNDLED_MODEL = Path(__file__).parents[1] / "assets" / "box"


def bundled_model() -> Path:
    """Its folder. Raises: SamplingError in an installation without it."""
    if not BUNDLED_MODEL.is_dir():
        raise SamplingError(f"this installation has no bundled model ({BUNDLED_MODEL}); give another with --ckpt")
    return BUNDLED_MODEL
