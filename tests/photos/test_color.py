"""Colour fixes follow their equations, and bands change nothing."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops import resize
from vdiffsr_jax.photos import color
from vdiffsr_jax.photos.resample import cubic_rows, lanczos


def scene(height, width, seed=0):
    y, x = np.mgrid[:height, :width]
    base = np.stack([128 + 60 * np.sin(x / 17), 120 + 60 * np.cos(y / 13), 100 + 40 * np.sin((x + y) / 11)], -1)
    return (base + np.random.default_rng(seed).normal(0, 4, base.shape)).clip(0, 255).round().astype(np.uint8)


def test_none_returns_the_picture_itself():
    hr = scene(32, 40)
    assert color.fix(hr, scene(8, 10), "none") is hr


def test_cubic_rows_are_the_networks_bicubic():
    lr = scene(9, 7).astype(np.float32)
    want = np.asarray(resize.bicubic(jnp.asarray(lr)[None], (36, 28)))[0]
    np.testing.assert_allclose(cubic_rows(lr, 4, 0, 36), want, atol=1e-3)
    np.testing.assert_array_equal(cubic_rows(lr, 4, 10, 20), cubic_rows(lr, 4, 0, 36)[10:20])


def test_wavelet_takes_low_frequencies_from_lr_and_keeps_detail():
    lr = scene(40, 50, seed=1)
    up = np.rint(np.clip(cubic_rows(lr.astype(np.float32), 4, 0, 160), 0, 255)).astype(np.uint8)
    detail = ((np.indices(up.shape[:2]).sum(0) % 2) * 8)[..., None]
    fixed = color.fix((up // 2 + detail + 40).astype(np.uint8), lr, "wavelet").astype(int)
    checker = np.abs(fixed[:, 1:] - fixed[:, :-1]).mean()
    assert 6 < checker < 10
    blurred, reference = color._smooth(fixed.astype(np.float32)), color._smooth(up.astype(np.float32))
    assert np.abs(blurred - reference).mean() < 4


def test_wavelet_in_bands_is_the_whole(monkeypatch):
    hr, lr = scene(160, 120), scene(40, 30, seed=2)
    whole = color.fix(hr, lr, "wavelet")
    monkeypatch.setattr(color, "_BAND", 37)
    np.testing.assert_array_equal(color.fix(hr, lr, "wavelet"), whole)


def test_wavelet_keeps_pure_colours_within_two_levels_under_noise():
    """Noise of 6 levels on a chart, cut off at one side by the range, leaves a cast of 2.6 if only cut."""
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (60, 130, 200)], np.uint8)
    lr = np.stack([colours[:3], colours[3:]]).repeat(24, 0).repeat(24, 1)
    noise = np.random.default_rng(0).normal(0, 6, (192, 288, 3))
    hr = np.clip(lr.repeat(4, 0).repeat(4, 1) * 0.7 + 38 + noise, 0, 255).astype(np.uint8)
    fixed = color.fix(hr, lr, "wavelet").astype(float)
    centres = fixed.reshape(2, 96, 3, 96, 3)[:, 36:60, :, 36:60].mean((1, 3)).reshape(6, 3)
    assert np.abs(centres - colours).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_adain_takes_mean_and_deviation(dtype):
    unit = 257 if dtype == np.uint16 else 1
    hr, lr = scene(64, 64).astype(dtype) * unit, (scene(16, 16, seed=3) // 2 + 60).astype(dtype) * unit
    fixed = color.fix(hr, lr, "adain") / unit
    np.testing.assert_allclose(fixed.mean((0, 1)), lr.mean((0, 1)) / unit, atol=0.1)
    np.testing.assert_allclose(fixed.std((0, 1)), lr.std((0, 1)) / unit, atol=0.1)


def test_unknown_fix_is_refused():
    with pytest.raises(ValueError, match="none, wavelet, adain"):
        color.fix(scene(8, 8), scene(2, 2), "magic")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lanczos_keeps_flat_areas_and_type(dtype):
    top = np.iinfo(dtype).max
    image = np.full((10, 12, 3), top, dtype)
    assert (lanczos(image, 25, 7) == top).all()
    assert lanczos(image, 25, 7).dtype == dtype
    ramp = np.linspace(0, top, 64).astype(dtype)[None].repeat(8, 0)
    assert np.abs(lanczos(ramp, 8, 32)[:, 4:-4] - (ramp[:, 8:-8:2] / 2 + ramp[:, 9:-8:2] / 2)).max() <= top / 100


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_wavelet_leaves_no_noise_on_one_colour_and_all_detail_elsewhere(dtype):
    """A model's pictures of one colour have a texture of their own: up to 46 levels at the edge of a cyan one."""
    unit = np.iinfo(dtype).max // 255
    lr = np.full((40, 40, 3), (0, 255, 255), np.uint8)
    lr[20:] = scene(20, 40)
    noise = np.random.default_rng(0).normal(0, 12, (160, 160, 3))
    hr = np.clip(lr.repeat(4, 0).repeat(4, 1) + noise, 0, 255).round()
    fixed = color.fix((hr * unit).astype(dtype), (lr * np.uint16(unit)).astype(dtype), "wavelet") / unit
    assert np.abs(fixed[:56] - (0, 255, 255)).max() <= 0.01
    low = color._smooth(fixed[96:144].astype(np.float32))
    assert (fixed[96:144] - low).std() > 0.9 * (hr[96:144] - color._smooth(hr[96:144].astype(np.float32))).std()
