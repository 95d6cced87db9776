"""The hub's folder format: packed, read back bit for bit, without orbax, and through an endpoint that is the hub's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from tests.distribution.hub_endpoint import Hub
from tests.sampling.conftest import model  # noqa: F401  (a fixture)
from vdiffsr_jax.cli import model as cli
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.distribution import pack, resolve
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.weights.checkpoint import CheckpointError, load_model, read_config

SIGNS = ["--license", "apache-2.0", "--data", "Noise.", "--command", "python train.py"]


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("packed") / "tiny"
    table = out.parent / "table.md"
    table.write_text("Degradation `fixed`.\n\n| method | PSNR-Y |\n| --- | ---: |\n| tiny | 12.3 |\n")
    assert cli.main(["pack", str(model), str(out), *SIGNS, "--scores", str(table)]) == 0
    return out


def test_packed_it_lies_as_in_torch_and_reads_back_the_same(model, packed):  # noqa: F811
    want, have = load_model(model), load_model(packed)
    assert (have.kind, have.config, have.sources) == (want.kind, want.config, want.sources)
    for item, params in want.items.items():
        mine, theirs = flatten(params), flatten(have.items[item])
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)

    ours = flatten(want.items["denoiser"])
    torch = safetensors.numpy.load_file(packed / "denoiser.safetensors")
    linear, convolution = (np.asarray(ours[f"unet/{name}/kernel"]) for name in ("time_embed/fc1", "conv_out"))
    assert np.array_equal(torch["unet.time_embed.fc1.weight"], linear.T)
    assert np.array_equal(torch["unet.conv_out.weight"], convolution.transpose(3, 2, 0, 1))
    assert "unet.norm_out.weight" in torch


def test_the_card_says_what_is_known(packed):
    card = (packed / "README.md").read_text()
    for text in ("license: apache-2.0", "library_name: vdiffsr-jax", "Noise.", "python train.py", "| tiny | 12.3 |",
                 "Degradation `fixed`", "vdiffsr-sample"):  # fmt: skip
        assert text in card


def test_it_loads_without_orbax(packed):
    code = (
        "import sys; sys.modules['orbax'] = sys.modules['orbax.checkpoint'] = None\n"
        "import numpy as np, vdiffsr_jax\n"
        f"print(vdiffsr_jax.from_pretrained({str(packed)!r}).config.scale)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "4\n", done.stderr


def test_damage_is_named(packed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(packed, copy)
    file = copy / "denoiser.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="denoiser is damaged"):
        load_model(copy)
    file.unlink()
    with pytest.raises(CheckpointError, match="denoiser is missing"):
        load_model(copy)


def test_a_licence_is_asked_for_and_nothing_is_overwritten(packed, model, capsys):  # noqa: F811
    with pytest.raises(SystemExit) as exit:
        cli.main(["pack", str(model), str(packed)])
    assert exit.value.code == 2
    assert cli.main(["pack", str(model), str(packed), *SIGNS]) == 2
    assert f"{packed} holds something; choose another folder" in capsys.readouterr().err


def test_packing_touches_nothing_of_a_folder_that_holds_something_else(model, tmp_path, capsys):  # noqa: F811
    for name in ("README.md", "pvar.safetensors"):
        (tmp_path / name).write_text("mine")
    assert cli.main(["pack", str(model), str(tmp_path), *SIGNS]) == 2
    assert "holds something; choose another folder" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("README.md", "pvar.safetensors"), "mine"
    )


def test_scores_that_are_no_text_are_told_and_nothing_is_left(model, tmp_path, capsys):  # noqa: F811
    table = tmp_path / "table.md"
    table.write_bytes("| é |".encode("latin-1"))
    assert cli.main(["pack", str(model), str(tmp_path / "out"), *SIGNS, "--scores", str(table)]) == 2
    assert f"--scores {table} is no text in UTF-8" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_a_full_disk_leaves_no_half_of_a_pack(model, tmp_path, capsys, monkeypatch):  # noqa: F811
    def full(path, tensors):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack.safetensors_file, "write", full)
    assert cli.main(["pack", str(model), str(tmp_path / "out"), *SIGNS]) == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def run(hub, tmp_path):
    """A command in a process of its own: huggingface_hub reads its environment when it is imported."""
    env = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_of_a_test"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=env | more, capture_output=True, text=True, check=False, timeout=120)

    return run


def test_a_repository_by_its_id(hub, run, packed):
    hub.repositories["org/tiny"] = {path.name: path.read_bytes() for path in packed.iterdir()}
    fetch = ("-m", "vdiffsr_jax.distribution", "fetch", "org/tiny")
    done = run(*fetch)
    assert done.returncode == 0, done.stderr
    assert read_config(done.stdout.strip()) == read_config(packed)
    count = len(hub.requests)
    assert run(*fetch, HF_HUB_OFFLINE="1").stdout == done.stdout
    assert len(hub.requests) == count


def test_a_repository_that_is_no_model_of_ours(hub, run):
    hub.repositories["org/other"] = {"weights.bin": b"123"}
    for name, message in (("org/other", "it has no config.json"), ("org/none", "cannot be had from the hub")):
        done = run("-m", "vdiffsr_jax.distribution", "fetch", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["runs/best", "mine/tiny"])
def test_what_is_missing_in_a_folder_is_not_asked_of_the_hub(packed, tmp_path, monkeypatch, name):
    """Nor by the name of a folder that the pages tell people to make; with a revision there is no doubt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(resolve.hub, "snapshot", lambda name: packed)
    with pytest.raises(ConfigError, match=f"{name}: no such directory"):
        resolve.resolve(name, ask=resolve.agree)
    assert resolve.find(name, ask=resolve.agree) == name
    assert resolve.resolve(f"{name}@main", ask=resolve.agree) == str(packed)
    assert resolve.resolve("org/tiny", ask=resolve.agree) == str(packed)


def test_push_uploads_what_pack_wrote(hub, run, packed, tmp_path):
    assert run("-m", "vdiffsr_jax.distribution", "push", str(packed), "org/mine").returncode == 0
    assert hub.repositories["org/mine"] == {path.name: path.read_bytes() for path in packed.iterdir()}
    done = run("-m", "vdiffsr_jax.distribution", "push", str(tmp_path), "org/mine")
    assert done.returncode == 2
    assert "is no packed model" in done.stderr
    done = run("-m", "vdiffsr_jax.distribution", "push", str(packed), "org/mine", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "error: the hub refuses org/mine: " in done.stderr
    assert "Traceback" not in done.stderr
