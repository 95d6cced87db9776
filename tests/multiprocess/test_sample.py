"""sample.py as two processes: each takes its share, together they write what one writes; a restart does the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.multiprocess import job
from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.weights import checkpoint

pytestmark = pytest.mark.slow


def sample(photos: Path, output: Path, model: Path, processes: int, *flags: str) -> list[str]:
    """What each process printed."""
    port = job.free_port()
    command = [sys.executable, "sample.py", "-i", str(photos), "-o", str(output), "--ckpt", str(model), *flags]
    command += ["--compile_cache=off"]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    share = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    running = [
        subprocess.Popen(
            command + ([*share, f"--process_id={i}"] if processes > 1 else []),
            cwd=job.ROOT,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]
    printed = [process.communicate(timeout=180)[0] for process in running]
    assert [process.returncode for process in running] == [0] * processes, printed
    return printed


def test_two_processes_share_a_folder(tmp_path):
    config = tiny_config(prior=False)
    checkpoint.save_model(tmp_path / "model", random_items(config), kind="vdiffsr", config=config)
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(photos / f"{name}.png")
    references = ["-r", str(tmp_path / "one")]

    sample(photos, tmp_path / "one", tmp_path / "model", 1)
    first, second = sample(photos, tmp_path / "two", tmp_path / "model", 2)
    assert "2 upscaled" in first
    assert "1 upscaled" in second
    for name in "abc":
        assert (tmp_path / "one" / f"{name}.png").read_bytes() == (tmp_path / "two" / f"{name}.png").read_bytes()

    (tmp_path / "two" / "b.png").unlink()
    first, second = sample(photos, tmp_path / "two", tmp_path / "model", 2, "--skip_existing", *references)
    assert "2 skipped" in first
    assert "1 upscaled" in second
    assert (tmp_path / "two" / "metrics_1.csv").exists()
