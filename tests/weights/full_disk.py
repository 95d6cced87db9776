"""Saves a model in a process whose files may not grow beyond some bytes, as on a full disk."""

from __future__ import annotations

import resource
import signal
import sys

import jax
import jax.numpy as jnp

from tests.models.filled import filled
from tests.weights.test_checkpoint import CFG
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights.checkpoint import CheckpointError, save_model


def main() -> None:
    """The directory of the model, what its arrays are (numpy, jax), how many bytes a file may have."""
    directory, arrays, most = sys.argv[1:]
    params = filled(kinds.network("vqgan", "vqgan", CFG).abstract)
    if arrays == "jax":
        params = jax.tree.map(jnp.asarray, params)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), resource.RLIM_INFINITY))
    try:
        save_model(directory, {"vqgan": params}, kind="vqgan", config=CFG)
    except CheckpointError as error:  # as the command lines do
        sys.exit(str(error))


if __name__ == "__main__":
    main()
