"""Photos, runs and models in gs://, through the libraries that would open a real bucket."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

MODEL = """
import numpy as np
from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.weights import checkpoint
from vdiffsr_jax.models.build import flatten

config = tiny_config(prior=False)
items = random_items(config)
checkpoint.save_model("gs://bucket/model", items, kind="vdiffsr", config=config)
model = checkpoint.load_model("gs://bucket/model")
assert model.config == config
for item, params in items.items():
    again = flatten(model.items[item])
    for name, leaf in flatten(params).items():
        np.testing.assert_array_equal(again[name], leaf, err_msg=name)
"""
SMALL_MODEL = """
import sys
from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.weights import checkpoint

config = tiny_config(prior=False)
checkpoint.save_model(sys.argv[1], random_items(config), kind="vdiffsr", config=config)
"""
PHOTOS = """
from vdiffsr_jax.data import sources

photos = sources.Collection(["gs://bucket/shards"], sources.Broken())
print(*(int(photos.pixels(i).astype(int).sum()) for i in range(len(photos.names))))
"""


def test_photos_are_packed_into_a_bucket_and_read_from_it(bucket, python, tmp_path):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(3)]
    for i, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"{i}.png")
    packed = python("-m", "vdiffsr_jax.data.pack", "--input", tmp_path, "--output", "gs://bucket/shards")
    assert packed.returncode == 0, packed.stderr
    assert bucket.files("shards") == ["photos-00000.array_record"]
    read = python("-c", PHOTOS)
    assert read.returncode == 0, read.stderr
    assert read.stdout.split() == [str(photo.astype(int).sum()) for photo in photos]


def test_a_model_in_a_bucket_is_what_was_saved(bucket, python):
    run = python("-c", MODEL)
    assert run.returncode == 0, run.stderr
    assert "config.json" in bucket.files("model")


def test_weights_are_converted_into_a_bucket_and_back(bucket, python, tmp_path):
    assert python("-c", SMALL_MODEL, tmp_path / "model").returncode == 0
    first, again = tmp_path / "new/first.safetensors", tmp_path / "again.safetensors"
    back = ("convert_torch_weights.py", "--part", "first_stage", "--to-torch")
    steps = [
        (*back, tmp_path / "model", "--output", first),
        ("convert_torch_weights.py", first, "--output", "gs://bucket/vqgan"),
        ("convert_torch_weights.py", "--to-torch", "gs://bucket/vqgan", "--output", again),
    ]
    for step in steps:
        run = python(*step)
        assert run.returncode == 0, run.stderr
    assert "config.json" in bucket.files("vqgan")
    assert again.read_bytes() == first.read_bytes()


def test_a_run_in_a_bucket_that_was_killed_equals_an_unbroken_one_here(bucket, python, tmp_path):
    def train(workdir: object, end: str) -> int:
        return python("-m", "tests.training.killed", workdir, end).returncode

    assert train("gs://bucket/run", "kill") == -signal.SIGKILL
    assert "checkpoints/2/_CHECKPOINT_METADATA" in bucket.files("run")
    assert train("gs://bucket/run", "keep") == 0
    assert train(tmp_path / "run", "keep") == 0
    parts = [name for name in bucket.files("run") if name.startswith("log.jsonl.")]
    lines = {
        place: [json.loads(line) for line in text.splitlines()]
        for place, text in (
            ("bucket", b"".join(bucket.store.objects[f"run/{name}"].content for name in parts)),
            ("here", (tmp_path / "run" / "log.jsonl").read_bytes()),
        )
    }
    losses = {place: {line["step"]: (line["loss"], line["grad_norm"]) for line in found if line["kind"] == "train"}
              for place, found in lines.items()}  # fmt: skip
    assert sorted(losses["here"]) == [1, 2, 3, 4]
    assert sorted(losses["bucket"])[-2:] == [3, 4], "the resumed run's own steps"
    assert all(losses["here"][step] == numbers for step, numbers in losses["bucket"].items())


def test_photos_of_a_bucket_are_upscaled_into_it(bucket, python, tmp_path):
    """One that is none fails alone; what was made is known the next time; the results are what they are here."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(tmp_path / "photos" / name)
        bucket.store.put(f"photos/{name}", (tmp_path / "photos" / name).read_bytes(), {})
    bucket.store.put("photos/bad.png", b"no picture", {})
    bucket.store.put("photos/notes.txt", b"left out", {})
    assert python("-c", SMALL_MODEL, tmp_path / "model").returncode == 0
    command = ["sample.py", "--ckpt", tmp_path / "model", "--devices", "1", "-i", "gs://bucket/photos"]
    first = python(*command, "-o", "gs://bucket/results", "--compare")
    assert first.returncode == 1, first.stderr
    assert "left out of gs://bucket/photos: 1 .txt" in first.stderr
    assert "bad.png: is not a PNG" in first.stderr
    assert "2 upscaled, 1 failed; results in gs://bucket/results" in first.stdout
    made = [name for name in bucket.files("results") if not name.startswith(".vdiffsr_results")]
    assert made == ["a.png", "b.png", "compare/a.png", "compare/b.png"]
    assert python(*command[:-1], tmp_path / "photos", "-o", tmp_path / "results").returncode == 0
    for name in ("a.png", "b.png"):
        assert bucket.store.objects[f"results/{name}"].content == (tmp_path / "results" / name).read_bytes()

    bucket.store.delete("photos/bad.png", {})
    again = python(*command, "-o", "gs://bucket/results")
    assert (again.returncode, again.stdout.partition(";")[0]) == (
        0,
        "nothing to do: 2 done before (by the same model and settings",
    )
    bucket.store.delete("results/b.png", {})
    skipping = python(
        *command[:-1], "gs://bucket/photos/*.png", "-o", "gs://bucket/results", "--skip_existing", "--seed", 1
    )
    assert "1 upscaled, 1 skipped" in skipping.stdout, skipping.stderr
    inside = python(*command[:-1], "gs://bucket/results", "-o", "gs://bucket/results")
    assert inside.returncode == 2
    assert "nothing but results of earlier runs" in inside.stderr
