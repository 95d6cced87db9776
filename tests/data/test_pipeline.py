from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import noise, save
from vdiffsr_jax.config import ConfigError, parse, to_dict
from vdiffsr_jax.data.config import PRESETS, DataConfig, DegradationConfig
from vdiffsr_jax.data.pipeline import Batches, Samples


@pytest.fixture
def cfg(tmp_path: Path) -> DataConfig:
    for n in range(3):
        save(noise(n, 64, 96), tmp_path / f"{n}.png")
    folder = (str(tmp_path),)
    return DataConfig(sources=folder, valid_sources=folder, crop_size=32, degradation="mild", synthetic_fraction=0.3)


def with_(cfg: DataConfig, **settings) -> DataConfig:
    return parse(DataConfig, {**to_dict(cfg), **settings}, "data.")


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def take(cfg: DataConfig, count: int, **settings) -> list[dict[str, np.ndarray]]:
    iterator = Batches(cfg, **{"seed": 7, "batch_size": 4, **settings})
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_to_the_ranges(name: str):
    assert parse(DegradationConfig, to_dict(PRESETS[name])) == PRESETS[name]


def test_batches_have_the_promised_form(cfg: DataConfig):
    for step, batch in enumerate(take(cfg, 3)):
        assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
            "hr": ((4, 32, 32, 3), np.float32),
            "lr": ((4, 8, 8, 3), np.float32),
            "index": ((4,), np.int64),
        }
        np.testing.assert_array_equal(batch["index"], np.arange(4) + 4 * step)
        for name in ("hr", "lr"):
            assert -1 <= batch[name].min() < batch[name].max() <= 1
    assert set(take(with_(cfg, degradation="none"), 1)[0]) == {"hr", "index"}


@pytest.mark.parametrize("threads", [1, 3])
def test_hosts_and_threads_share_one_order(cfg: DataConfig, threads: int):
    whole = take(cfg, 3)
    parts = [take(with_(cfg, threads=threads), 3, process_index=h, process_count=2) for h in range(2)]
    for step in range(3):
        assert_same(whole[step], {k: np.concatenate([p[step][k] for p in parts]) for k in whole[step]})


def test_worker_processes_give_the_same_samples_and_resume_anywhere(cfg: DataConfig):
    whole = take(cfg, 7)
    iterator = Batches(with_(cfg, num_workers=2), seed=7, batch_size=4)
    for step in range(3):
        assert_same(next(iterator), whole[step])
    state = iterator.get_state()
    iterator.close()
    assert state == {"step": 3}
    alone = Batches(cfg, seed=7, batch_size=4)
    alone.set_state(state)
    for step in range(3, 6):
        assert_same(next(alone), whole[step])
    alone.set_state({"step": 1})
    assert_same(next(alone), whole[1])
    assert alone.get_state() == {"step": 2}
    alone.close()


def test_workers_end_with_a_trainer_that_is_killed():
    """They would hold its standard output open, and whoever reads that would wait for ever."""
    script = """
from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.pipeline import Batches
if __name__ == "__main__":
    cfg = DataConfig(crop_size=32, degradation="bicubic", synthetic_fraction=1.0, num_workers=2)
    batches = Batches(cfg, seed=0, batch_size=2)
    next(batches)
    print("ready", flush=True)
    next(batches), input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as trainer:
        try:
            assert trainer.stdout.readline() == "ready\n"
            trainer.kill()
            assert trainer.communicate(timeout=20)[0] == ""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(trainer.pid, signal.SIGKILL)


def test_samples_depend_on_seed_split_and_index_only(cfg: DataConfig):
    first, again = Samples(cfg, seed=1), Samples(cfg, seed=1)
    assert_same(first(5), first(5))
    again(3)
    assert_same(first(5), again(5))
    assert (first(5)["hr"] != Samples(cfg, seed=2)(5)["hr"]).any()
    assert (first(5)["hr"] != Samples(cfg, seed=1, split="valid")(5)["hr"]).any()


def test_valid_is_every_photo_once_without_synthetic_ones(cfg: DataConfig):
    (batch,) = take(cfg, 1, batch_size=3, split="valid")
    centres = [noise(n, 64, 96)[16:48, 32:64] / 127.5 - 1 for n in range(3)]
    np.testing.assert_allclose(batch["hr"], centres, atol=1e-6)


def test_synthetic_alone_needs_no_photos_and_differs():
    cfg = DataConfig(crop_size=32, degradation="bicubic", synthetic_fraction=1.0)
    assert cfg.has_valid
    pictures = np.concatenate([take(cfg, 2)[0]["hr"], take(cfg, 1, split="valid")[0]["hr"]])
    assert len(np.unique(pictures.reshape(8, -1), axis=0)) == 8


def test_synthetic_fraction_is_a_share(cfg: DataConfig, tmp_path: Path):
    save(np.full((64, 64, 3), 77, np.uint8), tmp_path / "plain/p.png")
    cfg = with_(cfg, sources=(str(tmp_path / "plain"),), degradation="none")
    samples = Samples(cfg, seed=0)
    plain = sum(bool((samples.images(i)[0] == 77).all()) for i in range(200))
    assert abs(plain / 200 - 0.7) < 0.12


def test_a_bad_share_or_split_is_refused(cfg: DataConfig):
    with pytest.raises(ConfigError, match="batch_size=3 must divide by 2 processes"):
        Batches(cfg, seed=0, batch_size=3, process_count=2)
    with pytest.raises(ConfigError, match=r"data.valid_sources is empty: name a folder"):
        Batches(with_(cfg, valid_sources=()), seed=0, batch_size=4, split="valid")
    with pytest.raises(ConfigError, match="split='test' must be one of train, valid"):
        Samples(cfg, seed=0, split="test")


def test_presets_survive_json_and_custom_is_used(cfg: DataConfig):
    custom = with_(cfg, degradation="custom", custom_degradation=to_dict(PRESETS["realesrgan"]))
    assert custom.process == PRESETS["realesrgan"]
    assert with_(custom) == custom


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ()}, r"data.sources is empty: name a folder of photos"),
        ({"crop_size": 30}, r"data.crop_size=30 must be a multiple of data.scale=4"),
        ({"degradation": "blury"}, "degradation='blury' must be one of realesrgan, mild"),
        ({"degradation": "custom"}, r"data.custom_degradation and data.degradation='custom' belong together"),
        ({"degradation": "paired"}, r"data.lr_sources and data.degradation='paired' belong together"),
        ({"lr_sources": ("x",)}, r"data.lr_sources and data.degradation='paired' belong together"),
        ({"shrink": (0.5, 1.0)}, r"shrink=\(0.5, 1.0\) must be two rising numbers in 1\.\."),
        ({"threads": 0}, r"data.threads=0 must be at least 1"),
        ({"synthetic_fraction": 1.5}, "synthetic_fraction=1.5 must lie in 0..1"),
        ({"degradation": "paired", "lr_sources": ("x",)}, "data.valid_sources needs data.valid_lr_sources"),
        (
            {"degradation": "paired", "lr_sources": ("x",), "valid_sources": ()},
            "paired data takes neither synthetic_fraction nor shrink",
        ),
        (
            {"degradation": "custom", "custom_degradation": {"margin": 6}},
            r"margin=6 must be a multiple of data.scale=4",
        ),
        (
            {"degradation": "custom", "custom_degradation": {"resizes": ["lanczos"]}},
            "resizes=.* must name some of area, bilinear",
        ),
        (
            {"degradation": "custom", "custom_degradation": {"stages": [{"resize_prob": [0.5, 0.5, 0.5]}]}},
            "resize_prob=.* must be 3 probabilities that sum to 1",
        ),
        (
            {"degradation": "custom", "custom_degradation": {"stages": [{"blur": {"sizes": [4]}}]}},
            "sizes=.* must be odd",
        ),
    ],
)
def test_wrong_settings_are_refused(cfg: DataConfig, settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        with_(cfg, **settings)
