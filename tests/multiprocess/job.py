"""Starts the processes of a job on this machine and waits for them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(
    workdir: Path,
    processes: int,
    *,
    devices: int = 1,
    settings: dict[str, Any] | None = None,
    ends: dict[int, tuple[str, int]] | None = None,
) -> list[subprocess.Popen[str]]:
    """Processes of `tests.multiprocess.worker`; `ends`: {process: (kill or term, after which step)}."""
    port = free_port()
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    running = []
    workdir.mkdir(parents=True, exist_ok=True)
    for i in range(processes):
        command = [sys.executable, "-m", "tests.multiprocess.worker", str(workdir), f"--devices={devices}"]
        command += ["--settings", json.dumps(settings or {})]
        if processes > 1:
            command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}", f"--process_id={i}"]
        if ends and i in ends:
            command += [f"--end={ends[i][0]}", f"--at={ends[i][1]}"]
        log = (workdir / f"process_{i}.log").open("a")
        running.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, text=True))
        log.close()
    return running


def wait(running: Sequence[subprocess.Popen[str]], seconds: float = 180) -> list[int]:
    """Exit codes; whoever is not done in time is killed and shows as None's stand-in, -9."""
    until = time.monotonic() + seconds
    codes = []
    for process in running:
        try:
            codes.append(process.wait(max(0.1, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(process.wait())
    return codes


def run(workdir: Path, processes: int, **options: Any) -> list[int]:
    """`start`, then `wait`."""
    return wait(start(workdir, processes, **options))


def logs(workdir: Path) -> str:
    """What all processes printed."""
    return "\n".join(f"{file.name}:\n{file.read_text()}" for file in sorted(workdir.glob("process_*.log")))
