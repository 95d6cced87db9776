"""The model in the box as people see it: colours stay, cut-outs have clean edges, both ends can be asked for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import vdiffsr_jax
from vdiffsr_jax.cli import sample


@pytest.fixture(scope="module")
def box():
    return vdiffsr_jax.load(devices=1)  # a program for eight takes twice as long to compile


@pytest.mark.parametrize(("fidelity", "color"), [(0.0, (0, 255, 255)), (1.0, (80, 220, 90))])
def test_plain_colours_come_out_as_they_are(box, fidelity, color):
    lr = np.full((24, 24, 3), color, np.uint8)
    assert np.abs(box.upscale(lr, fidelity=fidelity).astype(int) - color).max() <= 2


def test_a_slow_ramp_gets_no_cast(box):
    ramp = np.linspace(30, 220, 64).round()[None, :, None]
    lr = np.broadcast_to(ramp, (64, 64, 3)).astype(np.uint8)
    means = box.upscale(lr).astype(float).reshape(256, 64, 4, 3).mean((0, 2))
    assert np.abs(means - ramp[0])[4:-4].max() <= 2


def test_a_cut_out_with_black_under_alpha_0(tmp_path):
    """Laid on white, grey and black within 8 levels of the ideal: its own colour all over, alpha as it was enlarged."""
    y, x = np.mgrid[:40, :40]
    alpha = np.clip(14.5 - np.hypot(x - 19.5, y - 19.5), 0, 1)
    color = np.array([220, 120, 40])
    rgba = np.dstack([(alpha > 0)[..., None] * color, 255 * alpha]).round().astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "disc.png")
    assert sample.main(["-i", str(tmp_path / "disc.png"), "-o", str(tmp_path / "out.png"), "--devices=1"]) == 0
    made = np.asarray(Image.open(tmp_path / "out.png")).astype(float)
    share = made[..., 3:] / 255
    for ground in (255, 128, 0):
        laid, ideal = (c * share + ground * (1 - share) for c in (made[..., :3], color))
        assert np.abs(laid - ideal).max() <= 8
    assert made[..., 3].max() == 255
    assert made[:16, :16, 3].max() == 0
