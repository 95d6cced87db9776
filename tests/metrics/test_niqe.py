"""NIQE: fits recover known parameters, features follow the formulas, damage scores worse, files come back."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy import ndimage, special

from tests.pictures import dead_leaves
from vdiffsr_jax.metrics import niqe
from vdiffsr_jax.metrics.niqe import NiqeError, Pristine


@pytest.fixture(scope="module")
def pristine() -> Pristine:
    return niqe.fit(dead_leaves(seed, 384, 576, discs=4000) for seed in range(6))


@pytest.mark.parametrize(
    ("alpha", "left", "right"), [(2.0, 1.0, 1.0), (1.0, 2.0, 2.0), (0.7, 0.5, 1.5), (3.0, 2.0, 1.0)]
)
def test_aggd_recovers_what_it_was_drawn_from(alpha: float, left: float, right: float):
    rng = np.random.default_rng(1)
    size = rng.gamma(1 / alpha, size=(2, 400_000)) ** (1 / alpha)
    x = np.where(rng.random(size.shape) < left / (left + right), -left * size, right * size)
    for found, true in zip(niqe.aggd(x), (alpha, left, right), strict=True):
        np.testing.assert_allclose(found, true, rtol=0.02)  # measured 0.008


def test_aggd_of_one_sided_samples_is_not_finite():
    assert not np.isfinite(niqe.aggd(np.ones((1, 50)))[1:]).all()


def test_mscn_by_hand():
    y = np.full((9, 9), 100.0)
    y[4, 4] = 200.0
    weights = np.exp(-np.add.outer(np.arange(-3, 4) ** 2, np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    peak = weights[3, 3] / weights.sum()
    normalized, deviation = niqe.mscn(y)
    assert deviation[4, 4] == pytest.approx(100 * np.sqrt(peak * (1 - peak)))
    assert normalized[4, 4] == pytest.approx(100 * (1 - peak) / (deviation[4, 4] + 1))
    assert normalized[0, 0] == pytest.approx(0, abs=1e-6)


def test_halving_is_antialiased_bicubic():
    y = np.random.default_rng(0).uniform(0, 255, (40, 32))
    reference = Image.fromarray(y.astype(np.float32)).resize((16, 20), Image.Resampling.BICUBIC)
    # Away from the edges, which Pillow leaves out of the sum instead of mirroring.
    np.testing.assert_allclose(niqe.halve(y)[2:-2, 2:-2], np.asarray(reference)[2:-2, 2:-2], atol=1e-4)


def test_features_of_a_block_follow_the_formulas():
    image = dead_leaves(9, 96, 192)
    features, sharpness = niqe.block_features(image)
    y = niqe.grey(image)
    assert features.shape == (2, 36)
    np.testing.assert_allclose(sharpness[1], niqe.mscn(y)[1][:, 96:].mean())
    shapes = np.arange(0.2, 10, 0.001)
    table = special.gamma(2 / shapes) ** 2 / (special.gamma(1 / shapes) * special.gamma(3 / shapes))
    for scale, size in ((0, 96), (1, 48)):
        block = np.asarray(niqe.mscn(y if scale == 0 else niqe.halve(y))[0][:, size:])
        want = []
        for shift in (None, (0, 1), (1, 0), (1, 1), (1, -1)):
            x = block if shift is None else block * np.roll(block, shift, (0, 1))
            deviations = [np.sqrt((x[side] ** 2).mean()) for side in (x < 0, x > 0)]
            g = deviations[0] / deviations[1]
            r = np.abs(x).mean() ** 2 / (x**2).mean() * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
            alpha = shapes[np.argmin((table - r) ** 2)]
            left, right = (s * np.sqrt(special.gamma(1 / alpha) / special.gamma(3 / alpha)) for s in deviations)
            mean = (right - left) * special.gamma(2 / alpha) / special.gamma(1 / alpha)
            want += [alpha, (left + right) / 2] if shift is None else [alpha, mean, left, right]
        np.testing.assert_allclose(features[1, 18 * scale : 18 * scale + 18], want, atol=2e-3)


def test_damage_scores_worse(pristine: Pristine):
    image = dead_leaves(99, 384, 576, discs=4000)
    blurred = ndimage.gaussian_filter(image.astype(float), (1.5, 1.5, 0)).astype(np.uint8)
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    clean = niqe.niqe(image, pristine)
    assert niqe.niqe(blurred, pristine) > 1.5 * clean
    assert niqe.niqe(noisy, pristine) > 1.5 * clean


def test_parameters_come_back_from_a_file(tmp_path, pristine: Pristine):
    pristine.save(tmp_path / "ours.npz")
    released = {"mu_prisparam": pristine.mean[None], "cov_prisparam": pristine.cov}
    scipy.io.savemat(tmp_path / "released.mat", released)
    np.savez(tmp_path / "basicsr.npz", mu_pris_param=pristine.mean[None], cov_pris_param=pristine.cov)
    for name in ("ours.npz", "released.mat", "basicsr.npz"):
        loaded = Pristine.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.mean, pristine.mean)
        np.testing.assert_array_equal(loaded.cov, pristine.cov)


def test_a_fit_that_is_broken_off_leaves_the_file_before(tmp_path, pristine: Pristine, monkeypatch):
    pristine.save(tmp_path / "ours.npz")
    before = (tmp_path / "ours.npz").read_bytes()

    def half(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(KeyboardInterrupt):
        pristine.save(tmp_path / "ours.npz")
    assert (tmp_path / "ours.npz").read_bytes() == before


def test_wrong_parameter_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "small.npz", mu_prisparam=np.zeros(18), cov_prisparam=np.eye(18))
    for name, why in (
        ("text.npz", "neither"),
        ("other.npz", "mu_prisparam"),
        ("small.npz", "36"),
        ("none.npz", "No such"),
    ):
        with pytest.raises(NiqeError, match=why):
            Pristine.load(tmp_path / name)


def test_small_and_flat_images_are_refused(pristine: Pristine):
    with pytest.raises(NiqeError, match="two blocks of 96"):
        niqe.niqe(dead_leaves(0, 96, 191), pristine)
    with pytest.raises(NiqeError, match="flat"):
        niqe.niqe(np.full((200, 200, 3), 77, np.uint8), pristine)
    with pytest.raises(NiqeError, match="too few"):
        niqe.fit([dead_leaves(0, 192, 192)])


def test_the_command_fits_a_folder_and_names_what_it_leaves_out(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        Image.fromarray(dead_leaves(seed, 480, 576, discs=4000)).save(photos / f"{seed}.png")
    (photos / "broken.jpg").write_bytes(b"not a photo")
    output = tmp_path / "niqe.npz"
    assert niqe.main(["--fit", str(photos), "--output", str(output)]) == 1
    assert "broken.jpg" in capsys.readouterr().err
    (photos / "broken.jpg").unlink()
    assert niqe.main(["--fit", str(photos), "--output", str(output)]) == 0
    assert Pristine.load(output).cov.shape == (36, 36)
    assert niqe.main(["--fit", str(tmp_path / "none"), "--output", str(output)]) == 2
    assert "no photos" in capsys.readouterr().err
