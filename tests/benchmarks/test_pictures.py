"""The table of the pictures: every row, kept scores, and only a changed model measured again."""

from __future__ import annotations

import csv
import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import pictures, real_esrgan
from tests.pictures import dead_leaves
from tests.sampling.conftest import tiny_config
from vdiffsr_jax.config import SharpConfig, to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights import checkpoint


class Repeating:
    """Every pixel sixteen times, at fidelity f moved by 10 (1 - f) levels; a first stage that loses nothing."""

    def upscale(self, image, fidelity=None):
        shift = 10 * (1 - (0.5 if fidelity is None else fidelity))
        return (image.repeat(4, 0).repeat(4, 1) + shift).clip(0, 255).astype(np.uint8)

    def encode(self, image):
        return image

    def decode(self, z):
        return z


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command on two photos and a model that is not there but for its configuration."""
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("a", "b")):
        Image.fromarray(dead_leaves(seed, 96, 100)).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "model").mkdir()
    config = dataclasses.replace(tiny_config(prior=False), sharp=SharpConfig())
    content = {"format": 2, "kind": "vdiffsr", "config": to_dict(config), "sources": []}
    (tmp_path / "model" / "config.json").write_text(json.dumps(content))

    def error(image, hr):
        return float(np.abs(image.astype(float) - hr).mean())

    monkeypatch.setattr(pictures, "scorers", lambda weights: {c: error for cs in pictures.COLUMNS.values() for c in cs})
    flags = ["--photos", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]

    def command(*more, code=0):
        assert pictures.main([*flags, "--ckpt", f"ours={tmp_path / 'model'}", *more]) == code
        if code == 2:
            return []
        with (tmp_path / "out" / "scores.csv").open() as file:
            return list(csv.DictReader(file))

    return command


def test_every_table_is_made_and_kept(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    scores = run()
    assert {line["table"] for line in scores} == set(pictures.COLUMNS)
    lossless = [float(line["score"]) for line in scores if line["table"] == pictures.FIRST]
    assert len(lossless) == 2 * 3
    assert max(lossless) == 0
    plain = {line["picture"]: float(line["score"]) for line in scores if line["table"] == pictures.PLAIN}
    assert plain["0-0-0"] == 5
    assert plain["255-255-255"] == 0
    shown = (tmp_path / "out" / "pictures.md").read_text()
    assert [f"| ours, fidelity {share:g} |" in shown for share in pictures.SHARES] == [True] * 5
    bicubic = next(line for line in shown.splitlines() if line.startswith("| bicubic"))
    assert bicubic.count("(1.000)") == 3, "distances have a ratio, PSNR and NIQE have none"

    def broken(directory):
        raise AssertionError("this was measured before")

    monkeypatch.setattr(pictures.vdiffsr_jax, "load", broken)
    assert run() == scores
    (tmp_path / "model" / "weights").write_text("other ones")
    with pytest.raises(AssertionError, match="measured before"):
        run()


def test_pictures_of_others_stand_beside_them(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    (tmp_path / "theirs").mkdir()
    for name in ("a", "b"):
        whole = Image.open(tmp_path / "photos" / f"{name}.png")
        whole.save(tmp_path / "theirs" / f"{name}.png")
    scores = run("--pictures", f"theirs={tmp_path / 'theirs'}")
    theirs = [float(line["score"]) for line in scores if line["method"] == "theirs"]
    assert len(theirs) == 2 * len(pictures.COLUMNS[pictures.DEGRADED])
    assert max(theirs) == 0


def test_a_picture_that_is_missing_or_of_another_size_is_said(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    (tmp_path / "theirs").mkdir()
    Image.open(tmp_path / "photos" / "a.png").save(tmp_path / "theirs" / "a.png")
    flags = ["--pictures", f"theirs={tmp_path / 'theirs'}"]
    run(*flags, code=2)
    assert capsys.readouterr().err == f"error: --pictures: 0 pictures of b.png instead of {tmp_path / 'theirs/b.png'}\n"
    Image.fromarray(dead_leaves(0, 96, 96)).save(tmp_path / "theirs" / "b.jpg")
    run(*flags, code=2)
    assert "b.jpg has 96 x 96 pixels, not 100 x 96" in capsys.readouterr().err.splitlines()[-1]
    run("--pictures", str(tmp_path), code=2)
    assert "error: --pictures " in capsys.readouterr().err


def test_photos_left_out_are_no_success(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    (tmp_path / "photos" / "c.png").write_bytes(b"")
    assert {line["picture"] for line in run(code=1) if line["table"] == pictures.CLEAN} == {"a.png", "b.png"}
    assert "c.png: is empty; left out" in capsys.readouterr().err
    for name in "ab":
        (tmp_path / "photos" / f"{name}.png").unlink()
    run(code=2)
    assert "no picture could be used" in capsys.readouterr().err


def test_a_line_that_was_being_written_is_measured_again(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    before = run()
    kept = tmp_path / "out" / "scores.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines)[:-9])
    assert run() == before
    assert kept.read_text().splitlines(keepends=True) == lines
    kept.write_text("".join(["{\n", *lines]))
    run(code=2)
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {kept}: line 1 is damaged; remove it"


def test_two_photos_of_one_name_have_two_pictures(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    monkeypatch.setattr(real_esrgan, "RealESRGAN", lambda threads: lambda lr: lr.repeat(4, 0).repeat(4, 1))
    (tmp_path / "photos" / "deep").mkdir()
    for seed, name in enumerate(("a.jpg", "deep/b.png"), 2):
        Image.fromarray(dead_leaves(seed, 96, 100)).save(tmp_path / "photos" / name)
    photos = ["--photos", str(tmp_path / "photos" / "**/*")]
    made = tmp_path / "made"
    assert real_esrgan.main([*photos, "--output", str(made)]) == 0
    files = {path.relative_to(made).as_posix() for path in made.rglob("*.png")}
    assert files == {"a_png.png", "a_jpg.png", "b.png", "deep/b.png"}
    scores = run(*photos, "--pictures", f"repeated={made}")
    repeated = [line for line in scores if line["method"] == "repeated"]
    assert len(repeated) == 4 * len(pictures.COLUMNS[pictures.DEGRADED])
    (tmp_path / "photos" / "c.png").write_bytes(b"")
    assert real_esrgan.main([*photos, "--output", str(made)]) == 1


def test_of_a_first_stage_by_itself_there_is_one_table(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.vdiffsr_jax, "load", lambda directory: Repeating())
    network = kinds.network("vqgan", "vqgan", tiny_config().first_stage)
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.02, leaf.dtype), network.abstract)
    alone = tmp_path / "alone"
    checkpoint.save_model(alone, {"vqgan": params}, kind="vqgan", config=tiny_config().first_stage)
    lines = [line for line in run("--ckpt", f"alone={alone}") if line["method"] == "alone"]
    assert {line["table"] for line in lines} == {pictures.FIRST}
    assert len(lines) == 2 * len(pictures.COLUMNS[pictures.FIRST])
    assert min(float(line["score"]) for line in lines) > 0


def test_what_is_missing_is_said(tmp_path, capsys, monkeypatch):
    class NoVMAF:
        def __init__(self):
            raise ImportError("No module named 'imageio_ffmpeg'")

    monkeypatch.setattr(pictures, "VMAF", NoVMAF)
    flags = ["--photos", str(tmp_path), "--output", str(tmp_path / "out")]
    assert pictures.main(flags) == 2
    assert "imageio_ffmpeg" in capsys.readouterr().err
    monkeypatch.setattr(pictures, "VMAF", lambda: types.SimpleNamespace(score=None))
    assert pictures.main([*flags, "--weights", str(tmp_path)]) == 2
    assert "lpips_alex has no weights" in capsys.readouterr().err
