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


PHOTOS = "abc"


def start(photos: Path, output: Path, model: Path, processes: int, *flags: str) -> list[subprocess.Popen[str]]:
    port = job.free_port()
    command = [sys.executable, "sample.py", "-i", str(photos), "-o", str(output), "--ckpt", str(model), *flags]
    command += ["--compile_cache=off"]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    share = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    return [
        subprocess.Popen(
            command + ([*share, f"--process_id={i}"] if processes > 1 else []),
            cwd=job.ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def finish(running: list[subprocess.Popen[str]], codes: list[int], seconds: float = 120) -> list[str]:
    """What each process printed; none may hang or end otherwise than expected."""
    try:
        printed = [process.communicate(timeout=seconds) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == codes, printed
    return [out + err for out, err in printed]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    config, folder = tiny_config(prior=False), tmp_path_factory.mktemp("model") / "model"
    checkpoint.save_model(folder, random_items(config), kind="vdiffsr", config=config)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in PHOTOS:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def test_two_processes_share_a_folder(tmp_path, model, photos):
    references = ["-r", str(tmp_path / "one")]
    finish(start(photos, tmp_path / "one", model, 1), [0])
    first, second = finish(start(photos, tmp_path / "two", model, 2), [0, 0])
    assert "2 upscaled" in first
    assert "1 upscaled" in second
    for name in PHOTOS:
        assert (tmp_path / "one" / f"{name}.png").read_bytes() == (tmp_path / "two" / f"{name}.png").read_bytes()

    (tmp_path / "two" / "b.png").unlink()
    first, second = finish(start(photos, tmp_path / "two", model, 2, "--skip_existing", *references), [0, 0])
    assert "2 skipped" in first
    assert "1 upscaled" in second
    assert (tmp_path / "two" / "metrics_1.csv").exists()


def test_more_processes_than_photos(tmp_path, model, photos):
    printed = finish(start(photos, tmp_path / "out", model, 4), [0] * 4)
    assert "fewer photos than the 4 processes" in printed[3]
    assert sorted(file.stem for file in (tmp_path / "out").glob("*.png")) == list(PHOTOS)


def test_a_process_that_is_refused_stops_no_other(tmp_path, model, photos):
    """b.png is process 1's, and its result is there already; process 0 has work left when process 1 has ended."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").touch()
    first, second = finish(start(photos, tmp_path / "out", model, 2), [0, 2])
    assert "2 upscaled" in first
    assert second.startswith("error: 1 results exist")
