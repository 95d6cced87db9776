"""Two processes replace a model, here and in a bucket: at every moment the old or the new one is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.buckets.conftest import ROOT
from tests.multiprocess import job
from vdiffsr_jax.weights.versions import CONFIG_FILE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("where", ["here", "bucket"])
def test_two_processes_export_over_an_older_model(bucket, python, tmp_path, where):
    directory = str(tmp_path / "best") if where == "here" else "gs://bucket/run/best"
    share = [f"--coordinator=127.0.0.1:{job.free_port()}", "--num_processes=2"]
    command = [sys.executable, "-m", "tests.buckets.exporter", directory, *share]
    env = os.environ | {"JAX_PLATFORMS": "cpu"} | bucket.environment()
    running, said = [], [tmp_path / f"{i}.log" for i in range(2)]  # a pipe that nobody reads yet would fill up
    for i, log in enumerate(said):
        with log.open("w") as stderr:
            running.append(subprocess.Popen([*command, f"--process_id={i}"], cwd=ROOT, env=env, stderr=stderr))
    for process in running:
        process.wait(timeout=400)
    assert running[0].returncode == -signal.SIGKILL, "".join(log.read_text() for log in said)
    assert running[1].returncode != 0
    first, second = ([line for line in log.read_text().splitlines() if line.startswith("to ")] for log in said)
    assert first == second
    assert len(set(first)) == 3, first
    # Killed while it wrote version 3: version 2 is whole, and the next save clears what the kill left.
    again = python("-c", AGAIN, directory)
    assert again.returncode == 0, again.stderr
    names = {path.name for path in (tmp_path / "best").iterdir()} if where == "here" else {
        name.partition("/")[0] for name in bucket.files("run/best")
    }  # fmt: skip
    assert len(names) == 2, names
    assert CONFIG_FILE in names


AGAIN = """
import sys
from tests.buckets.exporter import CONFIG, parameters, version
from vdiffsr_jax.weights import checkpoint
assert version(sys.argv[1]) == 2
checkpoint.save_model(sys.argv[1], {"vqgan": parameters(5)}, kind="vqgan", config=CONFIG, overwrite=True)
assert version(sys.argv[1]) == 5
"""
