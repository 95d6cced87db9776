"""PSNR and SSIM against numbers by hand and from scikit-image 0.25 (its inner region, Gaussian weights)."""

from __future__ import annotations

import numpy as np
import pytest

from vdiffsr_jax.evaluation.table import markdown
from vdiffsr_jax.metrics import psnr_ssim
from vdiffsr_jax.metrics.psnr_ssim import luma, psnr, ssim
from vdiffsr_jax.metrics.report import Report
from vdiffsr_jax.metrics.rules import RULES


def pair():
    y, x = np.mgrid[:40, :60]
    a = 128 + 60 * np.sin(x / 7) + 40 * np.cos(y / 5)
    return a, a + np.sin(x * y / 9.0) * 12


def test_luma_of_primaries():
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(luma(colors)[0], [16, 235, 81.481, 144.553, 40.966], atol=1e-12)
    np.testing.assert_allclose(luma(colors.astype(np.uint16) * 257), luma(colors), atol=1e-12)


def test_psnr_by_hand():
    a = np.zeros((4, 4))
    assert psnr(a, a + 255) == 0
    assert psnr(a, a + 25.5) == pytest.approx(20, abs=1e-12)
    assert psnr(a, a) == float("inf")


def test_numbers_of_scikit_image():
    a, b = pair()
    assert ssim(a, b) == pytest.approx(0.8034316625639015, abs=1e-12)
    assert psnr(a, b) == pytest.approx(29.68334316450445, abs=1e-10)
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_ssim_of_two_flat_maps_is_the_luminance_term():
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(np.full((12, 13), 100), np.full((12, 13), 120)) == pytest.approx(expected, abs=1e-10)


def test_rules_round_and_clip_as_they_say():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (40, 44, 3)).astype(np.uint8) for _ in range(2))
    y_a, y_b = luma(a), luma(b)
    np.testing.assert_array_equal(luma(a, rounded=True), np.round(y_a))
    whole, shaved = RULES["stablesr"], RULES["ntire"]
    assert whole.psnr(a, b) == pytest.approx(psnr(y_a, y_b))
    assert RULES["resshift"].psnr(a, b) == pytest.approx(psnr(np.round(y_a), np.round(y_b)))
    assert shaved.psnr(a, b) == pytest.approx(psnr(y_a[4:-4, 4:-4], y_b[4:-4, 4:-4]))
    assert shaved.ssim(a, b) == pytest.approx(ssim(y_a[4:-4, 4:-4], y_b[4:-4, 4:-4]))
    # Noise against noise: half of the structure terms are negative, so clipping must raise the mean.
    assert whole.ssim(a, b) > RULES["resshift"].ssim(a, b) + 0.005


def test_ssim_in_bands_is_the_same(monkeypatch):
    a, b = pair()
    whole = ssim(a, b)
    monkeypatch.setattr(psnr_ssim, "_BAND", 7)
    assert ssim(a, b) == pytest.approx(whole, abs=1e-12)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.zeros((10, 40)), np.zeros((10, 40)))


def test_report_tables():
    report = Report(("PSNR", "SSIM"), "how")
    report.add("a|b.png", {"PSNR": 20.0, "SSIM": 0.5})
    report.add("c.png", {"PSNR": 30.0, "SSIM": 0.7})
    assert report.mean() == pytest.approx({"PSNR": 25.0, "SSIM": 0.6})
    assert report.csv() == "image,PSNR,SSIM\na|b.png,20,0.5\nc.png,30,0.7\nmean,25,0.6\n"
    assert "| a\\|b.png | 20.0000 | 0.5000 |" in report.markdown()
    assert report.markdown().startswith("how\n")
    assert np.isnan(Report(("PSNR",), "").mean()["PSNR"])
    report = Report(("NIQE",), "")
    for name, niqe in (("flat", np.nan), ("a", 4.0), ("b", 6.0)):
        report.add(name, {"NIQE": niqe})
    assert report.mean() == {"NIQE": 5.0}
    assert "| a method | 5.00 of 2 |" in markdown({"a method": report}, {}, {}, ())
    with pytest.raises(ValueError, match="are not the columns"):
        report.add("d", {"PSNR": 1.0})
