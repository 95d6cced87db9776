"""docs/extending.md: the files on the page train as they stand there, from a folder outside of the package."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import re
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import vdiffsr_jax
from tests.models.filled import filled
from vdiffsr_jax.data import pack
from vdiffsr_jax.data.photos import Broken, DataError
from vdiffsr_jax.data.sources import Collection, open_source
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights import checkpoint

PAGE = Path(__file__).parents[1] / "docs/extending.md"
FILES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", PAGE.read_text(), re.M | re.S))
VQGAN = {"ch": 32, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "n_embed": 16}
MODEL = {
    "first_stage": VQGAN,
    "denoiser": {"image_size": 4, "model_channels": 32, "channel_mult": [1], "num_res_blocks": [1],
                 "attention_resolutions": [], "swin_depth": 1, "swin_embed_dim": 32, "window_size": 4,
                 "num_head_channels": 16},
    "schedule": {"num_steps": 2, "min_noise_level": 0.2, "cap_sqrt_eta_1": False},
    "prior": {"kind": "my_prior:Convolutions", "dim": 32, "train": "full",
              "tokenizer": {"ch": 32, "ch_mult": [1, 1, 1, 1], "patch_nums": [1, 2]}},
    "cogu": {"max_dim": 32},
    "cspa": {"dim": 32, "head_dim": 16, "window_size": 4, "levels": [1]},
}  # fmt: skip


@pytest.fixture
def parts(tmp_path, monkeypatch) -> Path:
    """The page's files in a folder on Python's path, photos in a zip archive beside them."""
    for name, code in FILES.items():
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i in range(3):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3), np.uint8)).save(file, "PNG")
            archive.writestr(f"deep/{i}.png", file.getvalue())
        archive.writestr("notes.txt", "not a photo")
        archive.writestr("broken.jpg", b"not a photo either")
    return tmp_path


def run(parts: Path, task: str, model: dict, loss: dict, **init_from: str) -> dict:
    return {
        "task": task,
        "model": model,
        "loss": loss,
        "data": {"sources": [zipped(parts)], "crop_size": 16, "degradation": "bicubic"},
        "batch_size": 1,
        "steps": 1,
        "log_every": 1,
        "optimizer": {"warmup": 1},
        "eval": {"every": 0},
        "init_from": init_from,
    }


def zipped(parts: Path) -> str:
    return f"my_source:Zip:{parts / 'photos.zip'}"


def test_the_page_has_four_examples_of_under_sixty_lines():
    assert set(FILES) == {"my_prior", "my_loss", "my_task", "my_source"}
    assert all(len(code.splitlines()) < 60 for code in FILES.values())


def test_all_four_train_together(parts, monkeypatch):
    one = jax.devices()[:1]  # a program for eight devices takes twice as long to compile
    monkeypatch.setattr(jax, "devices", lambda: one)
    chain = {
        "first": run(parts, "my_task:RestoreTask", VQGAN, {"l1": 2.0}),
        "student": run(
            parts,
            "my_loss:EdgeTask",
            MODEL,
            {"edges": 0.25, "pixel": 1.0, "perceptual": 0.0, "use_inverse": False},
            teacher=teacher(parts / "teacher"),
            first_stage="{workdir}/first/model",
        ),
    }
    first, student = vdiffsr_jax.train(chain, parts / "run")

    logged = terms(first)
    assert logged["loss"] == pytest.approx(2 * logged["l1"] + logged["codebook"], rel=1e-5)
    logged = terms(student)
    assert logged["edges"] > 0
    assert logged["loss"] == pytest.approx(0.25 * logged["edges"] + logged["pixel"] + logged["distil"], rel=1e-5)
    model = checkpoint.load_model(student / "model", items=["pvar"])
    assert (model.kind, model.config.prior.kind) == ("vdiffsr", "my_prior:Convolutions")
    assert set(model.items["pvar"]) == {"first", "second", "read_out"}


def teacher(folder: Path) -> str:
    """A plain denoiser of random numbers, the schedule of MODEL with it."""
    config = {name: MODEL[name] for name in ("denoiser", "schedule")}
    shapes = kinds.network("swin_unet", "swin_unet", kinds.parse_config("swin_unet", config)).abstract
    checkpoint.save_model(folder, {"swin_unet": filled(shapes)}, kind="swin_unet", config=config)
    return str(folder)


def terms(folder: Path) -> dict[str, float]:
    """What a run logged last of its training."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line][-1]


def test_a_source_of_ones_own_is_a_source_like_any(parts, caplog):
    photos = Collection([zipped(parts)], Broken())
    assert photos.keys == ["deep/0", "deep/1", "deep/2"]
    assert photos.sizes.tolist() == [[20, 24], [21, 24], [22, 24]]
    assert photos.pixels(2).shape == (22, 24, 3)
    assert "broken.jpg" in caplog.text
    pickle.loads(pickle.dumps(photos))
    for name in ("my_source:Tar:photos.tar", "no_such_module:Zip:photos.zip"):
        with pytest.raises(DataError, match=f"source {name.rpartition(':')[0]} cannot be imported"):
            open_source(name, Broken())


def test_a_source_of_ones_own_is_packed_into_shards(parts, capsys):
    assert pack.main(["--input", zipped(parts), "--output", str(parts / "shards")]) == 1
    assert "3 photos packed" in (out := capsys.readouterr().out)
    assert "1 broken left out" in out
    own, packed = (Collection([place], Broken()) for place in (zipped(parts), str(parts / "shards")))
    assert packed.keys == own.keys
    for i in range(3):
        np.testing.assert_array_equal(packed.pixels(i), own.pixels(i))


def test_a_source_whose_photos_have_no_suffixes_keeps_its_keys_in_shards(parts, monkeypatch):
    page = importlib.import_module("my_source")

    class Numbered(page.Zip):
        def __init__(self, place, broken):
            super().__init__(place, broken)
            self.names = [f"number {i}" for i in range(len(self.members))]
            self.keys = [f"v1.{i}" for i in range(len(self.members))]

    monkeypatch.setattr(page, "Numbered", Numbered, raising=False)
    pack.pack(zipped(parts).replace("Zip", "Numbered"), str(parts / "shards"))
    assert Collection([str(parts / "shards")], Broken()).keys == ["v1.0", "v1.1", "v1.2"]
