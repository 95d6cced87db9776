"""A model by its name: asked for once, checked, converted, used offline; and everything that may go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from PIL import Image

from vdiffsr_jax.cli import model as cli
from vdiffsr_jax.cli import sample
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.conversion.presets import PRESETS, choose
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.distribution import catalogue, resolve
from vdiffsr_jax.distribution.download import DownloadError
from vdiffsr_jax.distribution.fetch import fetch, remove, terms
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.weights import storage
from vdiffsr_jax.weights.checkpoint import CheckpointError, read_config

DENOISER = "SinSR_v1.safetensors"


def yes(text):
    return True


def never(text):
    raise AssertionError("asked again")


def files(cache: Path) -> list[str]:
    """What lies in the cache, but for locks and the insides of models."""
    found = [p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.parent.name in ("downloads", "models")]
    return sorted(name for name in found if not name.endswith(".lock"))


def test_the_catalogue_is_whole():
    assert set(catalogue.entries()) == {"sinsr", "resshift", "resshift-v3", "vdiffsr-d16"}
    kinds = {"denoiser": "swin_unet", "first_stage": "vqgan", "var": "var", "tokenizer": "var_tokenizer"}
    for entry in catalogue.entries().values():
        assert ("var" in entry.parts) == ("tokenizer" in entry.parts) == bool(entry.untrained)
        for role, part in entry.parts.items():
            name, _ = choose(kinds[role], Path(part.file), None)
            assert PRESETS[name].kind == kinds[role], "its file's name tells the preset"
            assert part.licence
            assert not part.tried, "nobody has downloaded from there yet"
    assert "have not been tried" in terms(catalogue.entry("sinsr"))
    assert "not trained" in terms(catalogue.entry("vdiffsr-d16"))


def test_a_model_is_fetched_once_and_then_used_offline(tiny, server, cache, capsys):
    folder = fetch("sinsr", ask=yes)
    assert read_config(folder)[1].schedule.num_steps == 15
    assert [source["file"] for source in read_config(folder)[2]] == ["SinSR_v1.safetensors", "vq_f4.safetensors"]
    assert "sinsr is ready in" in capsys.readouterr().err
    asked = len(server.requests)
    server.close()
    assert fetch("sinsr", ask=never) == folder
    assert len(server.requests) == asked == 2
    assert resolve.resolve("sinsr", ask=never) == str(folder)


def test_sample_takes_a_name(tiny, cache, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(photo)
    args = ["-i", str(photo), "-o", str(tmp_path / "out"), "--ckpt", "sinsr", "--devices", "1"]
    assert sample.main(args) == 1
    assert "sinsr is not downloaded: agree to it with --yes" in capsys.readouterr().err
    assert files(cache) == []
    assert sample.main([*args, "--yes"]) == 0
    assert read(tmp_path / "out" / "photo.png").color.shape == (64, 64, 3)


def test_no_is_no(tiny, server, cache):
    with pytest.raises(DownloadError, match="is not downloaded"):
        fetch("sinsr", ask=lambda text: "CC0" not in text)
    assert server.requests == []


@pytest.mark.parametrize("fault", ["page", "disguised", "gone", "short"])
def test_nothing_half_made_stays(tiny, server, cache, fault):
    server.faults = [fault]
    with pytest.raises(DownloadError):
        fetch("sinsr", ask=yes)
    assert DENOISER not in " ".join(files(cache))
    assert not (cache / "models" / "sinsr").exists()
    assert (fetch("sinsr", ask=yes) / "config.json").is_file()


def test_a_file_without_a_known_hash_is_held_to_its_first(tiny, server, cache, published):
    fetch("sinsr", ask=yes)
    known = json.loads((cache / "downloads" / "hashes.json").read_text())
    assert set(known) == {DENOISER, "vq_f4.safetensors"}
    remove("sinsr")
    assert files(cache) == ["downloads/hashes.json"]
    changed = bytearray(published[DENOISER])
    changed[-1] ^= 1
    (server.folder / DENOISER).write_bytes(changed)
    with pytest.raises(DownloadError, match=f"not {known[DENOISER]}"):
        fetch("sinsr", ask=yes)
    fetch("sinsr", ask=yes, accept_change=True)
    assert json.loads((cache / "downloads" / "hashes.json").read_text())[DENOISER] != known[DENOISER]


def test_a_download_that_was_changed_on_disk_is_told(tiny, cache):
    fetch("sinsr", ask=yes)
    shutil.rmtree(cache / "models" / "sinsr")
    file = cache / "downloads" / DENOISER
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DownloadError, match=r"is not the file that is expected .*; delete it"):
        fetch("sinsr", ask=yes)


def test_mirrors_by_environment(monkeypatch):
    part = catalogue.entry("vdiffsr-d16").parts["var"]
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert part.address == "https://mirror.example/FoundationVision/var/resolve/main/var_d16.pth"
    monkeypatch.setenv("VDIFFSR_MIRROR", "http://inside/weights/")
    assert part.address == "http://inside/weights/var_d16.pth"


@pytest.mark.parametrize(
    "mirror", ["/data/mirror", "mirror.local/files", "ftp://mirror.local", "http://", "http://[::1"]
)
def test_a_mirror_that_is_no_address_is_told(cache, monkeypatch, capsys, mirror):
    for name in ("VDIFFSR_MIRROR", "HF_ENDPOINT"):
        monkeypatch.setenv(name, mirror)
        assert cli.main(["fetch", "vdiffsr-d16", "--yes"]) == 2
        assert f"error: {name}={mirror} is no address" in capsys.readouterr().err
        monkeypatch.delenv(name)


def test_a_mirror_in_any_alphabet(monkeypatch):
    part = catalogue.entry("vdiffsr-d16").parts["var"]
    monkeypatch.setenv("VDIFFSR_MIRROR", "http://bücher.example:80/gewichte für alle/%20é/")
    assert part.address == "http://xn--bcher-kva.example:80/gewichte%20f%C3%BCr%20alle/%20%C3%A9/var_d16.pth"


@pytest.mark.parametrize("content", ["", "[]"])
def test_damaged_hashes_are_told(tiny, cache, capsys, content):
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "hashes.json").write_text(content)
    assert cli.main(["fetch", "sinsr", "--yes"]) == 1
    assert f"error: {cache / 'downloads' / 'hashes.json'} is damaged; delete it" in capsys.readouterr().err


def test_hashes_of_a_model_that_is_fetched_meanwhile_stay(tiny, cache, monkeypatch):
    write, written = storage.write_text, []

    def meanwhile(file, text):
        written.append(file)
        with pytest.raises(Timeout):
            FileLock(cache / "downloads" / ".hashes.json.lock").acquire(timeout=0)
        write(file, text)

    monkeypatch.setattr(storage, "write_text", meanwhile)
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "hashes.json").write_text('{"other.pth": "1"}')
    fetch("sinsr", ask=yes)
    assert cache / "downloads" / "hashes.json" in written
    assert set(json.loads((cache / "downloads" / "hashes.json").read_text())) == {
        DENOISER,
        "vq_f4.safetensors",
        "other.pth",
    }


def test_what_cannot_be_removed_is_told_and_what_was_begun_goes_too(tiny, cache, monkeypatch, capsys):
    folder = fetch("sinsr", ask=yes)
    for kind in ("partial", "validator"):
        (cache / "downloads" / f".{DENOISER}.{kind}").touch()

    def denied(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    capsys.readouterr()
    with monkeypatch.context() as m:
        m.setattr(shutil, "rmtree", denied)
        assert cli.main(["remove", "sinsr"]) == 1
    assert capsys.readouterr().err == f"error: [Errno 13] Permission denied: '{folder}'\n"
    assert cli.main(["remove", "sinsr"]) == 0
    assert files(cache) == ["downloads/hashes.json"]


def test_a_proxy_by_environment(tiny, server, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    server.faults = ["gone"]
    monkeypatch.setenv("VDIFFSR_MIRROR", "http://weights.invalid")
    with pytest.raises(DownloadError, match="404"):
        fetch("sinsr", ask=yes)
    assert server.requests[0][0] == f"http://weights.invalid/{DENOISER}"


def test_a_name_is_a_folder_first(tiny, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sinsr").mkdir()
    assert resolve.resolve("sinsr", ask=never) == "sinsr"
    assert resolve.resolve("gs://bucket/model", ask=never) == "gs://bucket/model"
    with pytest.raises(ConfigError, match=r"no such directory .*no model of the catalogue \(sinsr\) and no hub"):
        resolve.resolve("sinrs", ask=never)
    with pytest.raises(ConfigError, match="no such directory"):
        resolve.resolve("../some/where", ask=never)


def test_the_commands(tiny, cache, capsys):
    assert cli.main(["fetch", "sinsr"]) == 1, "nobody is there to ask"
    assert cli.main(["fetch", "sinsr", "--yes"]) == 0
    assert capsys.readouterr().out.strip() == str(cache / "models" / "sinsr")
    assert cli.main(["list"]) == 0
    assert f"sinsr          small; {cache / 'models' / 'sinsr'}" in capsys.readouterr().out
    assert cli.main(["remove", "sinsr"]) == 0
    assert capsys.readouterr().out.count("removed") == 3
    assert cli.main(["fetch", "nothing"]) == 2
    assert "the catalogue has sinsr" in capsys.readouterr().err


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "vdiffsr_jax.distribution", "list"], capture_output=True, text=True, check=True
    )
    assert "vdiffsr-d16" in done.stdout
    assert "address untried: SinSR_v1.pth, autoencoder_vq_f4.pth" in done.stdout


def test_evaluate_takes_names_too(monkeypatch, capsys, tmp_path):
    from vdiffsr_jax.cli import evaluate

    asked = []
    monkeypatch.setattr(evaluate, "run", lambda args: asked.extend(args.ckpt) or 0)
    monkeypatch.setattr(evaluate, "resolve", lambda name, ask: f"/models/{name}")
    assert evaluate.main(["--photos", "p", "--ckpt", "a=sinsr", "--ckpt", "runs/b", "--output", str(tmp_path)]) == 0
    assert asked == ["a=/models/sinsr", "b=/models/runs/b"]
    monkeypatch.undo()
    assert evaluate.main(["--photos", "p", "--ckpt", "a=sinsir", "--output", str(tmp_path)]) == 2
    assert "sinsir: no such directory" in capsys.readouterr().err


@pytest.mark.parametrize("refusal", [ConversionError("no rule"), CheckpointError("truncated"), OSError("full")])
def test_refusals_are_one_line_and_faults_of_ours_keep_their_trace(monkeypatch, capsys, refusal):
    def ends(args):
        raise error

    monkeypatch.setattr(cli, "_run", ends)
    error: Exception = refusal
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err == f"error: {refusal}\n"
    error = ValueError("shapes do not fit")
    with pytest.raises(ValueError, match="shapes do not fit"):
        cli.main(["list"])
