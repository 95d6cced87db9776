"""The control prior.mode=shuffled: every photo takes the prior of the next one, whatever shares a batch or a device."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax import Upscaler
from vdiffsr_jax.evaluation import models
from vdiffsr_jax.evaluation.cases import Case, Cases
from vdiffsr_jax.sampling.in_flight import Failure
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.tile_model import TileModel
from vdiffsr_jax.sampling.upscaler import SamplingError, Settings
from vdiffsr_jax.weights import checkpoint


def shuffled():
    config = tiny_config()
    return dataclasses.replace(config, prior=dataclasses.replace(config.prior, mode="shuffled"))


@pytest.fixture(scope="module")
def control():
    return Upscaler(shuffled(), random_items(tiny_config()), devices=4, batch=8)


def tile_of(photo):
    return (photo[None].astype(np.float32) / 255 - 0.5) / 0.5


def with_prior_of(model, photo, other):
    """HR of a photo of one tile with another one's window for the prior, straight from the compiled program, uint8."""
    batch = [np.repeat(tile, 8, axis=0) for tile in (tile_of(photo), tile_of(other))]
    made = model.launch(batch[0], np.zeros((8, 2), np.int32), prior_lr=batch[1], seed=0, steps=1, method="ancestral")
    return np.rint(np.clip(np.asarray(made[0]) * 0.5 + 0.5, 0, 1) * 255)


def test_the_program_reads_the_window_that_it_is_given(control, upscaler, photo):
    a, b = photo[:16, :16], photo[20:36, 40:56]
    own = with_prior_of(control._model, a, a)
    assert np.abs(own - upscaler(a)).max() <= 1
    assert np.abs(own - with_prior_of(control._model, a, b)).max() > 1


@pytest.mark.parametrize("count", [2, 3])
def test_every_photo_takes_the_prior_of_the_next(control, photo, count):
    photos = [photo[:16, :16], photo[20:36, 40:56], photo[30:46, 5:21]][:count]
    results = list(control.stream(photos, Settings()))
    for i, result in enumerate(results):
        others = {k: np.abs(result - with_prior_of(control._model, photos[i], p)).max() for k, p in enumerate(photos)}
        assert others.pop((i + 1) % count) <= 1
        assert min(others.values()) > 1, "and not its own, nor another one's"


def three(photo):
    return [photo[:24, :40], photo[10:26, 5:21], photo[20:50, 30:60]]


@pytest.mark.parametrize(("devices", "batch"), [(1, 1), (1, 3), (1, 8), (4, 3), (4, 8)])
def test_batches_and_devices_change_no_pair(control, photo, monkeypatch, devices, batch):
    """Which tile meets which window, told by a program that returns half of each."""

    def halves(self, lr, origins, *, prior_lr, **how):
        return ((lr + prior_lr) / 2).repeat(4, axis=1).repeat(4, axis=2)

    monkeypatch.setattr(TileModel, "launch", halves)
    want = list(control.stream(three(photo), Settings(blend="uniform")))
    found = Upscaler(shuffled(), random_items(tiny_config()), devices=devices, batch=batch)
    for a, b in zip(want, found.stream(three(photo), Settings(blend="uniform")), strict=True):
        np.testing.assert_array_equal(a, b)
    halves_of = photo[10:26, 5:21].astype(float), photo[27:43, 37:53].astype(float)  # the middle of the third
    assert np.abs(want[1][::4, ::4] - sum(halves_of) / 2).max() <= 0.51


def test_an_evaluation_gives_each_picture_the_prior_of_the_next(control, photo, tmp_path, monkeypatch):
    def halves(self, lr, origins, *, prior_lr, **how):
        return ((lr + prior_lr) / 2).repeat(4, axis=1).repeat(4, axis=2)

    monkeypatch.setattr(TileModel, "launch", halves)
    monkeypatch.setattr(Upscaler, "load", lambda *_, **__: control)
    given = dict(zip("abc", three(photo), strict=True))
    cases = Cases(list(given), lambda name: Case(name, given[name].repeat(4, 0).repeat(4, 1), given[name]), "")
    checkpoint.save_model(tmp_path / "control", random_items(tiny_config()), kind="vdiffsr", config=shuffled())
    how = {"seed": 0, "sampler": "ancestral", "dtype": "float32", "progress": Progress(3, io.StringIO())}
    make = models.opened(models.Entry("control", tmp_path / "control"), cases, **how)
    for case, want in zip(cases, control.stream(three(photo), Settings()), strict=True):
        np.testing.assert_array_equal(make(case), want)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch"), [(1, 1), (1, 3)])
def test_batches_and_devices_change_no_pixel(control, photo, devices, batch):
    want = list(control.stream(three(photo), Settings()))
    found = Upscaler(shuffled(), random_items(tiny_config()), devices=devices, batch=batch)
    for a, b in zip(want, found.stream(three(photo), Settings()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_photo_alone_is_refused(control, photo):
    with pytest.raises(SamplingError, match=r"prior\.mode=shuffled .*: one alone has none"):
        control(photo)


def test_what_is_no_picture_fails_with_the_photo_that_would_take_its_prior(control, photo):
    outcomes = list(control.outcomes([photo[:16, :16], np.zeros((4, 4), np.uint8), photo[:16, 4:20]], Settings()))
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [True, True, False]
