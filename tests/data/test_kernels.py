from __future__ import annotations

import numpy as np
import pytest

from vdiffsr_jax.data import kernels
from vdiffsr_jax.data.config import BlurConfig


@pytest.mark.parametrize("sinc_prob", [0.0, 1.0])
@pytest.mark.parametrize("shape", range(6))
def test_every_kernel_sums_to_one_and_is_symmetric(shape: int, sinc_prob: float):
    cfg = BlurConfig(sinc_prob=sinc_prob, shape_prob=tuple(float(i == shape) for i in range(6)))
    rng = np.random.default_rng(shape)
    for _ in range(30):
        kernel = kernels.draw_blur(rng, cfg)
        assert kernel.shape[0] in cfg.sizes
        assert kernel.dtype == np.float32
        np.testing.assert_allclose(kernel.sum(), 1, atol=1e-6)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
        assert sinc_prob or kernel.min() >= 0


def test_gaussian_has_the_variance_it_was_given():
    kernel = kernels.generalized_gaussian(kernels.mahalanobis(31, 1.5, 3.0, 0.0), 1.0)
    offsets = np.arange(31) - 15
    np.testing.assert_allclose((kernel.sum(0) * offsets**2).sum(), 1.5**2, rtol=1e-3)
    np.testing.assert_allclose((kernel.sum(1) * offsets**2).sum(), 3.0**2, rtol=1e-3)


def test_rotation_by_a_right_angle_swaps_the_axes():
    turned = kernels.mahalanobis(9, 1.0, 2.0, np.pi / 2)
    np.testing.assert_allclose(turned, kernels.mahalanobis(9, 2.0, 1.0, 0.0), atol=1e-9)


def test_plateau_is_flatter_at_the_centre_than_a_gaussian():
    radius = kernels.mahalanobis(21, 2.0, 2.0, 0.0)
    flat, peaked = kernels.plateau(radius, 2.0), kernels.generalized_gaussian(radius, 1.0)
    assert flat[10, 11] / flat[10, 10] > peaked[10, 11] / peaked[10, 10]


def test_sinc_passes_below_its_cutoff_rings_and_stops_above():
    kernel = kernels.sinc(61, np.pi / 2)
    assert kernel.min() < -1e-3
    response = np.abs(np.fft.fft(kernel.sum(0), 256))
    frequency = np.abs(np.fft.fftfreq(256)) * 2 * np.pi
    assert np.abs(response[frequency < np.pi / 3] - 1).max() < 0.1
    assert response[frequency > 2 * np.pi / 3].max() < 0.1


def test_anisotropic_and_round_kernels_come_in_the_asked_proportion():
    rng, cfg = np.random.default_rng(0), BlurConfig(sizes=(13,), sigma=(1.0, 3.0), sinc_prob=0.0)
    turned = sum(not np.allclose(k, k.T, atol=1e-6) for k in (kernels.draw_blur(rng, cfg) for _ in range(600)))
    assert 0.25 < turned / 600 < 0.37  # 0.25 + 0.03 + 0.03, five standard deviations either way at most
