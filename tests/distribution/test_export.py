"""Exports of the tiny model: read where this package cannot be imported, compared with what sample.py computes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax import Upscaler
from vdiffsr_jax.cli.model import main
from vdiffsr_jax.distribution import export
from vdiffsr_jax.ops import attention
from vdiffsr_jax.weights import checkpoint

# A plugin of jax2onnx that warns while it is imported would be left out.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jax2onnx")
READ = """
import sys
sys.modules["vdiffsr_jax"] = sys.modules["flax"] = None
sys.path.insert(0, sys.argv[1])
import numpy as np
from reader import load
np.save(sys.argv[3], load()(np.load(sys.argv[2]), seed=3, batch=2))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "model"
    config = tiny_config()
    checkpoint.save_model(path, random_items(config), kind="vdiffsr", config=config)
    return path


def test_stablehlo_is_read_by_jax_and_numpy_alone(tiny: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(["export", str(tiny), "--format", "stablehlo", "--output", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == {"tile.stablehlo", "weights.npz", "export.json", "reader.py"}
    photo = np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8)  # tiles of 16, 8 apart: 2 x 4
    np.save(tmp_path / "lr.npy", photo)
    command = [sys.executable, "-c", READ, str(out), str(tmp_path / "lr.npy"), str(tmp_path / "hr.npy")]
    subprocess.run(command, check=True, cwd=tmp_path)
    ours = Upscaler.load(tiny, devices=1)(photo, seed=3, color_fix="none")
    read = np.load(tmp_path / "hr.npy").astype(int)
    assert read.shape == ours.shape
    assert np.abs(read - ours).max() <= 1
    assert (read == ours).mean() > 0.99


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a prior: half the time."""
    path = tmp_path_factory.mktemp("plain") / "model"
    config = tiny_config(prior=False)
    checkpoint.save_model(path, random_items(config), kind="vdiffsr", config=config)
    return path


def test_onnx_agrees_and_is_refused_where_it_does_not(plain: Path, tmp_path: Path, capsys, monkeypatch):
    assert main(["export", str(plain), "--format", "onnx", "--output", str(tmp_path / "out")]) == 0
    assert "largest deviation from JAX" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model.onnx", "export.json"}
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    assert main(["export", str(plain), "--format", "onnx", "--output", str(tmp_path / "again")]) == 1
    assert re.search(r"deviates from JAX by .*: nothing was written", capsys.readouterr().err)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def fails(*arguments: object, **more: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("form", "module", "name"), [("stablehlo", export.np, "savez"), ("onnx", export, "compare")])
def test_nothing_is_left_where_the_disk_is_full(plain: Path, tmp_path: Path, capsys, monkeypatch, form, module, name):
    """In a folder that was not there, and in one that was, which stays: it may be mounted."""
    monkeypatch.setattr(module, name, fails)
    (tmp_path / "there").mkdir()
    for output in ("out", "there"):
        assert main(["export", str(plain), "--format", form, "--output", str(tmp_path / output)]) == 1
        assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    monkeypatch.undo()
    (tmp_path / "there" / ".partial").mkdir()
    assert main(["export", str(plain), "--format", form, "--output", str(tmp_path / "there")]) == 0
    assert "export.json" in {path.name for path in (tmp_path / "there").iterdir()}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_onnx_reads_attention_in_blocks_of_which_the_last_is_filled_up(monkeypatch: pytest.MonkeyPatch):
    import jax2onnx
    import onnxruntime

    q = np.random.default_rng(0).normal(size=(1, 11, 2, 8)).astype(np.float32)
    monkeypatch.setattr(attention, "MAX_LOGITS", 4 * 2 * 11)  # 11 queries as 4, 4 and 3
    jax.clear_caches()

    def attend(x: jax.Array) -> jax.Array:
        return attention.attention(x, x, x)

    assert "scan" in str(jax.make_jaxpr(attend)(q))
    model = jax2onnx.to_onnx(attend, [jax.ShapeDtypeStruct(q.shape, q.dtype)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: q})
    np.testing.assert_allclose(y, attend(q), atol=1e-5)
    jax.clear_caches()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "stablehlo", "--steps", "3"], "--steps 3 must be one of 1, 4, 15"),
        (["--format", "onnx", "--dtype", "bfloat16"], "ONNX is written in float32"),
        (["--format", "onnx", "--batch", "0"], "--batch 0 must be at least 1"),
        (["--format", "onnx", "--fidelity", "0"], "fidelity=0: this model is one student"),
    ],
)
def test_what_cannot_be_exported_says_why(tiny: Path, tmp_path: Path, capsys, flags, message):
    assert main(["export", str(tiny), "--output", str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "full", "link"])
def test_an_output_that_holds_something_is_told_before_the_model_is_read(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.setattr(export, "Exported", fails)
    out = tmp_path / "out"
    if kind == "file":
        out.touch()
    elif kind == "link":
        out.symlink_to("nowhere")
    else:
        (out / "a").mkdir(parents=True)
    assert main(["export", str(tmp_path), "--format", "stablehlo", "--output", str(out)]) == 2
    assert f"{out} holds something; choose another folder" in capsys.readouterr().err
