"""A bucket while a test lasts, and processes that see it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.buckets.server import Server

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bucket() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def python(bucket) -> Command:
    """`python(*arguments)` in a process of its own: what opens buckets reads the environment once."""
    env = os.environ | {"JAX_PLATFORMS": "cpu"} | bucket.environment()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)

    return run
