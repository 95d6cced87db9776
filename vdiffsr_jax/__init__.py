"""VDiff-SR in JAX: one-step latent diffusion super-resolution (x4) guided by a visual autoregressive prior.

The whole public interface, with examples, is docs/api.md.
"""

from __future__ import annotations

import os
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etils import epath
    from ml_collections import ConfigDict

    from vdiffsr_jax.sampling.model import Model
    from vdiffsr_jax.sampling.upscaler import Upscaler

__version__ = "0.1.0"
__all__ = ["Model", "Upscaler", "__version__", "from_pretrained", "load", "train"]
_PLACES = {"Model": "vdiffsr_jax.sampling.model:Model", "Upscaler": "vdiffsr_jax.sampling.upscaler:Upscaler"}


def load(name: str | os.PathLike[str] | None = None, **options: Any) -> Model:
    """A model ready to upscale: `load("checkpoints/vdiffsr")`, `load("sinsr")`, `load("org/name")`.

    Args: name: a folder or bucket's folder, a model of the catalogue, or a repository of the Hugging Face hub, in this
        order; without one, the small model that the package holds. What is not here yet is downloaded, after its size
        and licence were written to stderr. options: as `Upscaler.load` takes them.
    Raises: ConfigError if it is none of them; DownloadError; CheckpointError; SamplingError.
    """
    from vdiffsr_jax.distribution.resolve import agree, resolve
    from vdiffsr_jax.sampling.model import Model

    return Model.load(**options) if name is None else Model.load(resolve(name, ask=agree), **options)


from_pretrained = load


def train(
    config: str | os.PathLike[str] | Mapping[str, Any] | ConfigDict,
    workdir: str | os.PathLike[str] | None = None,
    settings: Sequence[str] = (),
) -> list[epath.Path]:
    """What `train.py` does, from Python: every run of the configuration, resumed if it was begun before.

    Args: config: values, a file with get_config(), or the name of one of ours (`smoke`). workdir: for checkpoints, logs
        and samples; a chain without one goes to a temporary directory. settings: as --set, "batch_size=16".
    Returns: the directories of the runs, each with its `model`, in order; those after an interrupted one are missing.
    Raises: ConfigError, CheckpointError, DataError, training.metrics.NonFiniteError.
    """
    from vdiffsr_jax.distribution.resolve import agree, find
    from vdiffsr_jax.evaluation.held_out import WholePairs
    from vdiffsr_jax.training import chain, sequence
    from vdiffsr_jax.training.sharding import use_cpu_devices

    runs = chain.with_starts(chain.parse_runs(config, workdir, settings), lambda name: find(name, ask=agree))
    use_cpu_devices(runs.values())
    return sequence.run(runs, chain.root_of(runs), open_pairs=WholePairs)


def __getattr__(name: str) -> object:
    """Each is imported when it is asked for: importing the package alone stays cheap."""
    if name in _PLACES:
        return pkgutil.resolve_name(_PLACES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
