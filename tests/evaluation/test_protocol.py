"""Crops lie in the middle and LR under HR; degradations repeat; what cannot be used is named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.pictures import dead_leaves
from vdiffsr_jax.data.config import PRESETS
from vdiffsr_jax.evaluation import protocol
from vdiffsr_jax.evaluation.protocol import Protocol, read_cases
from vdiffsr_jax.photos.photo import ImageError


def test_the_crop_is_the_middle_and_lr_belongs_to_it():
    photo = dead_leaves(0, 150, 203)
    case = Protocol(crop=66, degradation="bicubic").case("x.png", photo)
    assert case.hr.shape == (64, 64, 3)
    assert case.lr.shape == (16, 16, 3)
    # 37 and 50 LR pixels: 10 and 17 are left out before the crop.
    np.testing.assert_array_equal(case.hr, photo[40:104, 68:132])
    assert np.abs(case.bicubic.astype(float) - case.hr).mean() < np.abs(case.hr - case.hr.mean((0, 1))).mean()


def test_a_given_lr_is_cut_at_the_same_place():
    photo, lr = dead_leaves(0, 151, 203), dead_leaves(1, 37, 50)
    case = Protocol(crop=64, degradation="paired").case("x.png", photo, lr)
    np.testing.assert_array_equal(case.lr, lr[10:26, 17:33])
    np.testing.assert_array_equal(case.hr, photo[40:104, 68:132])
    with pytest.raises(ImageError, match="should have 50 x 37"):
        Protocol(degradation="paired").case("x.png", photo, lr[1:])


def test_noise_depends_on_seed_and_name_alone():
    photo = dead_leaves(0, 100, 100)

    def lr(name: str, seed: int = 0) -> np.ndarray:
        return Protocol(seed=seed).case(name, photo).lr

    np.testing.assert_array_equal(lr("a.png"), lr("a.jpg"))
    assert (lr("a.png") != lr("b.png")).any()
    assert (lr("a.png") != lr("a.png", seed=1)).any()


def test_small_photos_are_refused():
    with pytest.raises(ImageError, match="60 x 100 pixels, at least 64"):
        Protocol().case("x.png", np.zeros((100, 60, 3), np.uint8))


def test_what_the_protocol_says_of_fixed_is_what_the_preset_does():
    (stage,) = PRESETS["fixed"].stages
    assert stage.blur.sigma == (1.5, 1.5)
    assert stage.blur.shape_prob[0] == 1
    assert stage.blur.sinc_prob == 0
    assert (stage.gaussian_prob, stage.gaussian, stage.gray_prob) == (1.0, (5.0, 5.0), 0.4)
    assert stage.jpeg == (60, 60)
    assert PRESETS["fixed"].resizes == ("antialiased_bicubic",)
    assert set(protocol.DEGRADATIONS) == {*PRESETS, "paired"}


def test_paired_folders_match_by_name_and_failures_are_named(tmp_path):
    for folder, name, size in (("hr", "a.png", 80), ("hr", "b.png", 80), ("hr", "c.png", 80), ("lr", "a.jpg", 20),
                               ("lr", "b.png", 19)):  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(dead_leaves(0, size, size)).save(tmp_path / folder / name)
    failures = {}

    def failed(name, kind, why):
        failures[name] = why

    cases = read_cases(str(tmp_path / "hr"), Protocol(degradation="paired"), lr=str(tmp_path / "lr"), failed=failed)
    assert [case.name for case in cases] == ["a.png"]
    assert "should have 20 x 20" in failures["b.png"]
    assert "0 LR files" in failures["c.png"]


def test_sixteen_bits_become_eight(tmp_path):
    import imagecodecs

    photo = dead_leaves(0, 80, 80)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(photo.astype(np.uint16) * 257))
    (case,) = read_cases(str(tmp_path), Protocol(), failed=lambda name, kind, why: pytest.fail(why))
    np.testing.assert_array_equal(case.hr, photo)
