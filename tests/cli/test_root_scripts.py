"""The scripts at the root say which Python they need before they import what an older one cannot read."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["train.py", "sample.py", "convert_torch_weights.py", "evaluate.py"])
def test_one_line_on_an_older_python(name: str):
    ast.parse((ROOT / name).read_text(), feature_version=(3, 4))
    code = f"import sys, runpy; sys.version_info = (3, 10, 4); runpy.run_path({name!r}, run_name='__main__')"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, f"{name} needs Python 3.11 to 3.13; this is Python 3.10\n")
