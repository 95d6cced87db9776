"""What older formats of a checkpoint mean today.

Format 1: CSPA's same-scale branch read the level's map drawn out to the stage's size. Format 2: it reads the level's
own cells, so a bias table of the same shape means other places. All else of format 1 computes what it did.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vdiffsr_jax.models.build import Params, flatten

FORMAT = 2
READABLE = (1, 2)


def means_another_branch(found: int, config: Any, denoiser: Params) -> bool:
    """Whether a model's CSPA same-scale branch was trained in format 1: its part of some W_o is not zero any more."""
    if found > 1 or config.prior is None or not config.cspa.same:
        return False
    same = [
        leaf for path, leaf in flatten(denoiser).items() if path.startswith("cspa/") and path.endswith("/w_o/kernel")
    ]
    return any(bool(np.any(np.asarray(kernel[: config.cspa.dim]))) for kernel in same)
