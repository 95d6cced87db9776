"""VDiff-SR in JAX: one-step latent diffusion super-resolution (x4) guided by a visual autoregressive prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdiffsr_jax.sampling.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> object:
    """`Upscaler` is imported when it is asked for: importing the package alone stays cheap."""
    if name == "Upscaler":
        from vdiffsr_jax.sampling.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
