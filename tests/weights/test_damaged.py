"""A checkpoint that was damaged, or copied in part, is said to be so in one line, whatever of it is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.models.filled import filled
from vdiffsr_jax.cli.convert import main
from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights import json_object
from vdiffsr_jax.weights.checkpoint import CheckpointError, load_model, read_config, save_model

CFG = VQGANConfig(ch=32, ch_mult=(1,), num_res_blocks=1, n_embed=16)
DEEP, LONG = "[" * 200_000, '{"format": ' + "1" * 5000 + "}"


@pytest.fixture(scope="module", params=["numpy", "jax"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "vqgan"
    params = filled(kinds.network("vqgan", "vqgan", CFG).abstract)
    if request.param == "jax":
        params = jax.tree.map(jnp.asarray, params)
    save_model(path, {"vqgan": params}, kind="vqgan", config=CFG)
    return path


@pytest.mark.parametrize("what", ["removed", b"", "halved", b"\0" * 50, b"[]", b"{}", b"null"], ids=str)
@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt", "d/*"])
def test_every_file_of_an_item_may_be_damaged(saved: Path, tmp_path: Path, name: str, what: str | bytes):
    path = shutil.copytree(saved, tmp_path / "m")
    for file in (path / "vqgan").glob(name):
        content = file.read_bytes()
        file.unlink()
        if what != "removed":
            file.write_bytes(content[: len(content) // 2] if isinstance(what, str) else what)
    with pytest.raises(CheckpointError, match=r"m/vqgan is damaged: |m/vqgan do not fit"):
        load_model(path)
    assert main(["--to-torch", str(path), "--output", str(tmp_path / "x.safetensors")]) == 1


def test_reads_that_were_begun_fail_with_the_first_and_silently(saved: Path, tmp_path: Path):
    path = shutil.copytree(saved, tmp_path / "m")
    (path / "vqgan/manifest.ocdbt").unlink()
    command = "import sys; from vdiffsr_jax.cli.convert import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", command, str(path), "--inspect"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1), run.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": None}, "damaged: config is missing, or nothing that"),
        ({"config": []}, "damaged: config is"),
        ({"kind": ["x"], "sources": None}, "damaged: kind, sources is"),
        ({"sources": [1]}, "damaged: sources is"),
        ({"folder": "../.."}, "damaged: folder is"),
        ({"format": [1]}, r"has format \[1\]"),
        (DEEP, "damaged: it is nested too deeply"),
        (LONG, "damaged: it is no JSON: Exceeds the limit"),
        ("[1]", "damaged: it holds a list, not one JSON object"),
        ("\xff", "damaged: it is no JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_description_is_checked_field_by_field(saved: Path, tmp_path: Path, change: dict | str, message: str):
    path = shutil.copytree(saved, tmp_path / "m")
    file = path / "config.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(file.read_text()) | change)
    file.write_text(change, encoding="latin1")
    with pytest.raises(CheckpointError, match=rf"m/config\.json( is)? {message}"):
        read_config(path)


def test_an_object_may_have_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert json_object.read(tmp_path / "a.json") == {"a": 1}
