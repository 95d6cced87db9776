"""The whole path from pixels to pixels, with a tiny random model."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import vdiffsr_jax
from tests.sampling.conftest import random_items, tiny_config
from tests.sampling.seams import seam_ratio
from vdiffsr_jax import Upscaler
from vdiffsr_jax.photos.resample import cubic_rows
from vdiffsr_jax.sampling.errors import DeviceMemoryError, SamplingError
from vdiffsr_jax.sampling.model import Model
from vdiffsr_jax.sampling.tile_model import TileModel
from vdiffsr_jax.sampling.upscaler import Settings
from vdiffsr_jax.weights import checkpoint

BOX = pathlib.Path(vdiffsr_jax.__file__).parent / "assets" / "box"


def levels(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def test_a_photo_comes_back_four_times_as_large_the_same_every_time(upscaler, photo):
    first = upscaler(photo, steps=1, seed=0)
    assert first.shape == (200, 300, 3)
    assert first.dtype == np.uint8
    assert first.std() > 5
    np.testing.assert_array_equal(upscaler(photo), first)
    assert levels(upscaler(photo, seed=1), first) > 1


def test_the_prior_matters(upscaler, photo, monkeypatch):
    tile = photo[:16, :16]
    want, params = upscaler(tile), upscaler._model.params
    pvar = {**params["pvar"], "adapter": jax.tree.map(lambda x: -x, params["pvar"]["adapter"])}
    monkeypatch.setattr(upscaler._model, "params", {**params, "pvar": pvar})
    assert levels(upscaler(tile), want) > 1


def test_other_batches_and_devices_change_no_pixel(plain_model, plain_upscaler, photo):
    want = plain_upscaler(photo[:30, :40])
    found = Upscaler.load(plain_model, batch=16)(photo[:30, :40])  # eight devices, two tiles each
    assert levels(found, want) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch"), [(1, 1), (1, 4), (2, 2), (8, 16)])
def test_other_batches_and_devices_change_no_pixel_with_a_prior(model, upscaler, photo, devices, batch):
    assert levels(Upscaler.load(model, devices=devices, batch=batch)(photo), upscaler(photo)) <= 1


def test_16_bits_in_16_bits_out(plain_upscaler, photo):
    crop = photo[:20, :20]
    eight, sixteen = plain_upscaler(crop), plain_upscaler(crop.astype(np.uint16) * 257)
    assert sixteen.dtype == np.uint16
    assert np.abs(sixteen / 257 - eight).max() <= 0.6
    assert len(np.unique(sixteen)) > 256


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (16, 16), (17, 5)])
def test_small_photos_are_padded(plain_upscaler, photo, size):
    hr = plain_upscaler(photo[: size[0], : size[1]])
    assert hr.shape == (4 * size[0], 4 * size[1], 3)


def test_photos_share_batches_and_do_not_touch_each_other(upscaler, photo):
    crops = [photo[:20, :20], photo[10:26, 5:21], photo[:40, 30:60]]
    counted = []
    together = list(upscaler.stream(iter(crops), Settings(), counted.append))
    assert sum(counted) == sum(upscaler.grid(*c.shape[:2], Settings()).count for c in crops)
    for crop, hr in zip(crops, together, strict=True):
        np.testing.assert_array_equal(hr, upscaler(crop))


@pytest.mark.parametrize("sampler", ["ancestral", "deterministic"])
def test_several_steps(plain_upscaler, photo, sampler):
    crop = photo[:16, :16]
    several = plain_upscaler(crop, steps=4, sampler=sampler)
    assert levels(several, plain_upscaler(crop)) > 1
    np.testing.assert_array_equal(plain_upscaler(crop, steps=4, sampler=sampler), several)


def test_blends_and_colour_fixes_reach_the_picture(plain_upscaler, photo):
    crop = photo[:24, :24]
    base = plain_upscaler(crop)
    assert levels(plain_upscaler(crop, blend="uniform"), base) > 1
    assert levels(plain_upscaler(crop, stride=8), plain_upscaler(crop, stride=4)) > 1
    fixed = plain_upscaler(crop, color_fix="adain")
    np.testing.assert_allclose(fixed.mean((0, 1)), crop.mean((0, 1)), atol=4)


@pytest.mark.parametrize(("tile", "stride"), [(64, 56), (32, 24), (16, 8), (8, 4), (4, 2)])
def test_the_default_overlap_fits_any_tile(plain_upscaler, monkeypatch, tile: int, stride: int):
    monkeypatch.setattr(plain_upscaler, "tile", tile)
    plain_upscaler.check(Settings())
    assert plain_upscaler.grid(100, 100, Settings()).stride == stride
    assert plain_upscaler.grid(100, 100, Settings(overlap=0)).stride == tile


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 15}, "schedule has 4 steps; choose 1 or 4"),
        ({"sampler": "euler"}, "ancestral, deterministic"),
        ({"blend": "linear"}, "cosine, uniform"),
        ({"color_fix": "magic"}, "none, wavelet, adain"),
        ({"overlap": 16}, r"0\.\.15"),
        ({"stride": 17}, r"1\.\.16"),
    ],
)
def test_impossible_settings_are_refused(plain_upscaler, photo, settings, message):
    with pytest.raises(SamplingError, match=message):
        plain_upscaler(photo, **settings)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_other_arrays_are_refused(plain_upscaler, image):
    with pytest.raises(SamplingError, match=r"\(h, w, 3\) uint8 or uint16"):
        plain_upscaler(image)


def test_impossible_models_are_refused(model, plain_model, tmp_path):
    for options, message in [
        ({"dtype": "float16"}, "float32 or bfloat16"),
        ({"devices": 9}, "this machine has 8"),
        ({"batch": 0}, "at least 1"),
        ({"tile": 32}, "never resized"),
    ]:
        with pytest.raises(SamplingError, match=message):
            Upscaler.load(model, **options)
    with pytest.raises(SamplingError, match="multiple of 16"):
        Upscaler.load(plain_model, tile=24)
    with pytest.raises(SamplingError, match="is not the one"):
        Upscaler.load(plain_model, prior=model)
    config = tiny_config()
    first_stage = tmp_path / "vqgan"
    checkpoint.save_model(
        first_stage, {"vqgan": random_items(config)["first_stage"]}, kind="vqgan", config=config.first_stage
    )
    with pytest.raises(SamplingError, match="holds a vqgan network alone"):
        Upscaler.load(first_stage)
    with pytest.raises(checkpoint.CheckpointError, match="no such directory"):
        Upscaler.load(tmp_path / "nothing")


def test_the_prior_may_come_from_another_checkpoint(model, upscaler, photo):
    loaded = Upscaler.load(model, prior=model / "pvar")
    assert set(loaded._model.params) == {"first_stage", "denoiser", "pvar"}


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_pillows_deep_images_are_refused(plain_model, photo, dtype, mode):
    """Pillow would cut them off at 255."""
    with pytest.raises(SamplingError, match=f"mode {mode}: give its path, or an array of uint8 or uint16"):
        vdiffsr_jax.load(plain_model, devices=1).upscale(Image.fromarray(photo[..., 0].astype(dtype)))


def test_out_of_device_memory_halves_the_batch_and_says_so(plain_model, plain_upscaler, photo, monkeypatch, caplog):
    want = plain_upscaler(photo)
    greedy = Upscaler.load(plain_model, devices=1, batch=5)
    greedy._model = plain_upscaler._model
    sizes = []
    original = TileModel.launch

    def limited(self, lr, origins, **how):
        sizes.append(len(lr))
        if len(lr) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return original(self, lr, origins, **how)

    monkeypatch.setattr(TileModel, "launch", limited)
    np.testing.assert_array_equal(greedy(photo), want)
    assert sizes[:3] == [5, 2, 1]
    assert greedy.batch == 1
    assert [r.getMessage() for r in caplog.records] == [
        "out of device memory with 5 tiles at once; going on with 2",
        "out of device memory with 2 tiles at once; going on with 1",
    ]


def test_memory_that_fails_in_the_middle_loses_no_tile(plain_upscaler, photo, monkeypatch):
    want = plain_upscaler(photo)
    calls = []
    original = TileModel.launch

    def sometimes(self, lr, origins, **how):
        calls.append(1)
        if len(calls) == 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return original(self, lr, origins, **how)

    monkeypatch.setattr(TileModel, "launch", sometimes)
    with pytest.raises(DeviceMemoryError, match="smallest batch"):
        plain_upscaler(photo)
    monkeypatch.setattr(plain_upscaler, "_halve_batch", lambda error: None)
    calls.clear()
    np.testing.assert_array_equal(plain_upscaler(photo), want)


def test_other_device_errors_are_not_taken_for_memory(plain_upscaler, photo, monkeypatch):
    def broken(self, lr, origins, **how):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(TileModel, "launch", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        plain_upscaler(photo)


def scene():
    """A 300x200 photo stand-in: waves, edges, grain."""
    y, x = np.mgrid[:200, :300]
    clean = np.stack([128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), 60 + 140 * ((x // 22 + y // 18) % 2)], -1)
    return (clean + np.random.default_rng(0).normal(0, 6, clean.shape)).clip(0, 255).round().astype(np.uint8)


def test_tiles_that_disagree_leave_no_seam(plain_model, monkeypatch):
    """Neighbours differ by up to eight levels everywhere: hidden by the blend, plain to see without an overlap."""
    rng = np.random.default_rng(1)

    def disagreeing(self, lr, origins, **how):
        offset = rng.uniform(-0.03, 0.03, (len(lr), 1, 1, 3)).astype(np.float32)
        return np.stack([cubic_rows(tile, 4, 0, 4 * len(tile)) for tile in lr]) + offset

    monkeypatch.setattr(TileModel, "launch", disagreeing)
    upscaler = Upscaler.load(plain_model, devices=1, tile=64)
    assert seam_ratio(upscaler, scene(), monkeypatch) <= 1.05
    assert seam_ratio(upscaler, scene(), monkeypatch, blend="uniform") > 1.05
    assert seam_ratio(upscaler, scene(), monkeypatch, overlap=0) > 1.05


@pytest.mark.slow
@pytest.mark.skipif(not BOX.is_dir(), reason="the bundled model is not in this checkout")
def test_seams_of_the_bundled_model(monkeypatch):
    assert seam_ratio(Upscaler.load(BOX, devices=1), scene(), monkeypatch) <= 1.05


def test_attention_that_nobody_pays_is_refused(model, plain_model):
    lr = np.zeros((1, 16, 16, 3), np.float32)
    with pytest.raises(SamplingError, match="no CSPA"):
        Model.load(plain_model, devices=1).attention(lr, 0, (0, 0))
    whole = Model.load(model, devices=1)
    with pytest.raises(SamplingError, match=r"query=\(0, 16\): give row and column, each in 0..15"):
        whole.attention(lr, 0, (0, 16))
    with pytest.raises(SamplingError, match="place=3: this model's CSPA stands in 3 places"):
        whole.attention(lr, 3, (0, 0))
