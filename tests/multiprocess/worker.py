"""One process of a job over loopback: trains the toy, notes every sample it used, and can be told to end badly."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np


def parser() -> argparse.ArgumentParser:
    """Flags of the job, and what is to go wrong."""
    from vdiffsr_jax.runtime import processes as distributed

    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--end", choices=("kill", "term"), help="the signal this process gets ...")
    parser.add_argument("--at", type=int, help="... after this step")
    distributed.add_flags(parser)
    return parser


def main() -> int:
    """As train.py does it, with the toy in place of a task."""
    args = parser().parse_args()
    import jax

    from tests.buckets.exporter import CONFIG, parameters
    from tests.training.toy import ToyTask, toy_config
    from vdiffsr_jax.cli.train import DONE, FAILED, INTERRUPTED
    from vdiffsr_jax.runtime import processes as distributed
    from vdiffsr_jax.training import tasks
    from vdiffsr_jax.training.loop import Run

    jax.config.update("jax_num_cpu_devices", args.devices)
    distributed.join(args, pass_on_sigterm=True)
    tasks.make = ToyTask  # type: ignore[assignment]
    ToyTask.export = lambda self, flat: ("vqgan", CONFIG, {"vqgan": parameters(0)})  # type: ignore[method-assign]
    run = Run(toy_config(**args.settings), args.workdir)
    used = (args.workdir / f"used_{jax.process_index()}.jsonl").open("a")
    step_of = run._step

    def step(batch: Any, index: int, window: Any) -> Any:
        metrics = step_of(batch, index, window)
        number = int(run.state.step)
        local = [np.asarray(shard.data) for shard in batch["hr"].addressable_shards]
        digests = [round(float(image.sum()), 3) for part in local for image in part]
        used.write(json.dumps({"step": number, "samples": digests}) + "\n")
        used.flush()
        if number == args.at:
            if args.end == "kill":
                run.checkpoints.manager.wait_until_finished()
            os.kill(os.getpid(), signal.SIGKILL if args.end == "kill" else signal.SIGTERM)
        return metrics

    run._step = step  # type: ignore[method-assign]
    try:
        outcome = run.run()
    except RuntimeError as error:  # as the command line does
        print(f"failed: {error}")
        distributed.end_job(FAILED)
        raise
    np.savez(
        args.workdir / f"state_{jax.process_index()}.npz",
        **{name: np.asarray(leaf.addressable_data(0)) for name, leaf in run.state.params.items()},
    )
    return INTERRUPTED if outcome.interrupted else DONE


if __name__ == "__main__":
    sys.exit(main())
