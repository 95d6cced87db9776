"""One of two processes that save a model over and over; the second process is always late, and sees nothing of them.

The last save ends by a signal in process 0 while arrays are written: what was there before must still be whole.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import Any

import jax
import numpy as np

from tests.models.filled import filled
from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models import kinds
from vdiffsr_jax.runtime import processes
from vdiffsr_jax.weights import checkpoint, orbax_items, versions

CONFIG = VQGANConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, n_embed=16)


def parameters(version: int) -> Any:
    """Filled with numbers of this version."""
    return jax.tree.map(lambda x: x + version, filled(kinds.network("vqgan", "vqgan", CONFIG).abstract))


def version(directory: str) -> int:
    """Which version lies there, whole."""
    found = checkpoint.load_model(directory).items["vqgan"]
    shift = jax.tree.map(lambda a, b: np.unique(np.rint(np.asarray(a) - b)), found, parameters(0))
    (number,) = {int(n) for leaf in jax.tree.leaves(shift) for n in leaf}
    return number


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    processes.add_flags(parser)
    args = parser.parse_args()
    process, _ = processes.join(args, pass_on_sigterm=False)

    check = checkpoint.check_free

    def late(*arguments: Any, **options: Any) -> None:
        time.sleep(process)  # the other one is already writing then
        check(*arguments, **options)

    checkpoint.check_free = late  # type: ignore[assignment]
    if process:
        versions.next_number = lambda _: 0
    save = orbax_items.save

    def told(items: Any, **options: Any) -> None:
        print("to", *items, file=sys.stderr, flush=True)
        save(items, **options)

    orbax_items.save = told
    for number in (1, 2):
        checkpoint.save_model(
            args.directory, {"vqgan": parameters(number)}, kind="vqgan", config=CONFIG, overwrite=True
        )
        assert version(args.directory) == number
    if process == 0:
        write = orbax_items.BoundedArrays.serialize

        async def killed(*arguments: Any, **options: Any) -> Any:
            await write(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        orbax_items.BoundedArrays.serialize = killed  # type: ignore[method-assign]
    checkpoint.save_model(args.directory, {"vqgan": parameters(3)}, kind="vqgan", config=CONFIG, overwrite=True)


if __name__ == "__main__":
    sys.exit(main())
