"""VDiff-SR in JAX: one-step latent diffusion super-resolution (x4) guided by a visual autoregressive prior."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdiffsr_jax.sampling.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__", "from_pretrained", "load"]


def load(name: str | os.PathLike[str], **options: Any) -> Upscaler:
    """A model ready to upscale: `load("checkpoints/vdiffsr")`, `load("sinsr")`, `load("org/name")`.

    Args: name: a folder or bucket's folder, a model of the catalogue, or a repository of the Hugging Face hub, in this
        order. What is not here yet is downloaded, after its size and licence were written to stderr. options: as
        `Upscaler.load` takes them.
    Raises: ConfigError if it is none of them; DownloadError; CheckpointError; SamplingError.
    """
    from vdiffsr_jax.distribution.resolve import agree, resolve
    from vdiffsr_jax.sampling.upscaler import Upscaler

    return Upscaler.load(resolve(name, ask=agree), **options)


from_pretrained = load


def __getattr__(name: str) -> object:
    """`Upscaler` is imported when it is asked for: importing the package alone stays cheap."""
    if name == "Upscaler":
        from vdiffsr_jax.sampling.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
