from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arrays", ["numpy", "jax"])
@pytest.mark.parametrize("most", [4000, 100_000])
def test_a_full_disk_is_told_in_one_line_and_no_model_is_there(tmp_path, arrays, most):
    command = [sys.executable, "-m", "tests.weights.full_disk", str(tmp_path / "m"), arrays, str(most)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{tmp_path / 'm'} cannot be written: " in done.stderr
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "m").exists()
