from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vdiffsr_jax.data import degradation, filters, synthetic
from vdiffsr_jax.data.config import PRESETS
from vdiffsr_jax.data.degradation import degrade


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("preset", PRESETS)
def test_lr_has_a_quarter_of_each_side_and_depends_on_the_generator_alone(preset: str):
    hr, cfg = synthetic.picture(rng(), 96)[:, :64], PRESETS[preset]
    for seed in range(8):
        lr = degrade(hr, cfg, rng(seed))
        assert lr.shape == (24, 16, 3)
        assert lr.dtype == np.uint8
        np.testing.assert_array_equal(lr, degrade(hr, cfg, rng(seed)))
    assert preset == "bicubic" or (lr != degrade(hr, cfg, rng(99))).any()


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="66 x 64 pixels does not divide by 4"):
        degrade(np.zeros((64, 66, 3), np.uint8), PRESETS["bicubic"], rng())


def test_bicubic_is_bicubic_and_nothing_else():
    hr = synthetic.picture(rng(1), 64)
    plain = filters.resize(hr.astype(np.float32) / 255, 16, 16, "antialiased_bicubic")
    np.testing.assert_array_equal(degrade(hr, PRESETS["bicubic"], rng()), degradation.to_uint8(plain))


@pytest.mark.parametrize("preset", PRESETS)
def test_brightness_survives_on_average(preset: str):
    ramp = np.linspace(60, 200, 64)[:, None, None]
    hr = np.broadcast_to(ramp + np.array([-20, 0, 20]), (64, 64, 3)).astype(np.uint8)
    mean = np.mean([degrade(hr, PRESETS[preset], rng(seed)).mean((0, 1)) for seed in range(40)], axis=0)
    np.testing.assert_allclose(mean, hr.mean((0, 1)), atol=3)


def test_two_stages_damage_more_than_one():
    pictures = [synthetic.picture(rng(i), 64) for i in range(12)]

    def error(preset: str) -> float:
        pairs = [
            (degrade(p, PRESETS[preset], rng(i)), degrade(p, PRESETS["bicubic"], rng())) for i, p in enumerate(pictures)
        ]
        return float(np.mean([(a.astype(float) - b) ** 2 for a, b in pairs]))

    assert 0 < error("mild") < error("realesrgan")


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_has_its_deviation_and_its_colour(gray: bool):
    noise = degradation.gaussian_noise(np.full((80, 80, 3), 0.5, np.float32), 10.0, rng(), gray=gray) - 0.5
    np.testing.assert_allclose(noise.std() * 255, 10, rtol=0.03)
    assert (np.ptp(noise, axis=-1).max() < 1e-6) == gray


def test_poisson_noise_grows_with_the_signal():
    ramp = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32)[:, None, None], (256, 200, 3))
    noise = degradation.poisson_noise(ramp, 1.0, rng(), gray=False) - ramp
    photons = 256  # as many as grey levels in the ramp
    for row in (64, 128):
        np.testing.assert_allclose(noise[row - 8 : row + 8].var(), row / 255 / photons, rtol=0.1)
    assert (degradation.poisson_noise(np.zeros((8, 8, 3), np.float32), 3.0, rng(), gray=True) == 0).all()


def test_jpeg_loses_more_at_lower_quality_and_halves_chroma():
    image = synthetic.picture(rng(2), 64).astype(np.float32) / 255
    errors = [np.square(degradation.jpeg(image, quality) - image).mean() for quality in (30, 60, 95)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_final_order_is_drawn_both_ways():
    """JPEG last shows in the LR's own 8 x 8 grid; JPEG before the resize does not."""
    hr, first = synthetic.picture(rng(3), 128), PRESETS["realesrgan"]
    both = [dataclasses.replace(first, stages=(), sinc_prob=0.0, jpeg=(30, 30), jpeg_last_prob=p) for p in (0.0, 1.0)]
    before, after = (degrade(hr, cfg, rng(5)) for cfg in both)
    assert (before != after).any()
    # What a JPEG of this quality wrote changes little when it is written so again.
    again = [np.abs(degradation.jpeg(lr.astype(np.float32) / 255, 30) * 255 - lr).mean() for lr in (before, after)]
    assert again[1] < 0.5 * again[0]


def test_second_stage_runs_in_its_share_of_samples(monkeypatch: pytest.MonkeyPatch):
    stages = []
    monkeypatch.setattr(degradation, "_stage", lambda image, stage, *rest: stages.append(stage) or image)
    for seed in range(400):
        degrade(np.zeros((8, 8, 3), np.uint8), dataclasses.replace(PRESETS["realesrgan"], jpeg=()), rng(seed))
    second = sum(stage.of_lr for stage in stages)
    assert len(stages) - second == 400
    assert 150 < second < 250


def test_unsharp_sharpens_edges_and_leaves_flat_parts():
    edge = np.full((64, 64, 3), 0.3, np.float32)
    edge[:, 32:] = 0.7
    sharp = degradation.unsharp(edge)
    assert sharp[:, 31].mean() < 0.29
    assert sharp[:, 32].mean() > 0.71
    np.testing.assert_allclose(sharp[:, :4], 0.3, atol=2e-3)
