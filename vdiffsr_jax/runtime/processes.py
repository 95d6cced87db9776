"""Several processes as one job: JAX's runtime finds the others by itself or is told where they are."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from vdiffsr_jax.config import ConfigError, first_line

# A process that was killed is noticed after this long, and the others end; JAX waits 100 s unless told.
HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 60


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--distributed`, or coordinator, number of processes and this one's number."""
    group = parser.add_argument_group("many processes")
    group.add_argument(
        "--distributed", action="store_true", help="one of many; JAX finds the others (TPU pod, GKE, Slurm, Open MPI)"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, where JAX cannot find it")
    group.add_argument("--num_processes", type=int, help="with --coordinator: how many processes the job has")
    group.add_argument("--process_id", type=int, help="with --coordinator: which one this is, from 0")


def join(args: argparse.Namespace, *, pass_on_sigterm: bool) -> tuple[int, int]:
    """Join the job that the flags describe, before any device is used; without them this process is alone.

    Args: pass_on_sigterm: SIGTERM at any process no longer ends it but reaches all of them, by
            `multihost_utils.reached_preemption_sync_point`.
    Returns: this process's number and how many there are.
    Raises: ConfigError if the flags do not fit together, no cluster is found or the others do not come.
    """
    given = {name: getattr(args, name) for name in ("coordinator", "num_processes", "process_id")}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if len(missing) == 3 and not args.distributed:
        return 0, 1
    if missing and len(missing) < 3:
        raise ConfigError(f"--coordinator, --num_processes and --process_id go together; missing {', '.join(missing)}")
    if not missing and not 0 <= args.process_id < args.num_processes:
        raise ConfigError(f"--process_id {args.process_id} must lie in 0..{args.num_processes - 1} (--num_processes)")
    import jax

    jax.config.update("jax_enable_preemption_service", pass_on_sigterm)
    try:
        jax.distributed.initialize(
            coordinator_address=args.coordinator,
            num_processes=args.num_processes,
            process_id=args.process_id,
            local_device_ids=_local_devices(os.environ),
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        where = f"--coordinator {args.coordinator}" if args.coordinator else "--distributed"
        raise ConfigError(f"{where}: the job's processes did not find each other ({first_line(error)})") from error
    return jax.process_index(), jax.process_count()


def _local_devices(environment: Mapping[str, str]) -> list[int] | None:
    """As `jax.distributed.initialize` takes them: [] is all that there are, None what JAX thinks right.

    Under Slurm and Open MPI it gives every process a single GPU, also to one that is alone on its host.
    """
    tasks, nodes = (environment.get(f"SLURM_{name}") for name in ("NTASKS", "STEP_NUM_NODES"))
    alone = (tasks is not None and tasks == nodes) or environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
    return [] if alone and not environment.get("JAX_LOCAL_DEVICE_IDS") else None


def work_alone() -> None:
    """After `join`: number and count stay known, but from here on this process waits for no other, and its end,
    good or bad, does not touch the others. For work that is shared without any exchange.
    """
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def end_job(code: int) -> None:
    """Leave a job of many processes at once after a failure; returns if this process is alone.

    The orderly way out waits for all others, who wait for this one: instead they see it gone and end, too.
    """
    import jax

    if jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
