"""The schedule by hand, and what must hold for every schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vdiffsr_jax.config import ConfigError, ScheduleConfig
from vdiffsr_jax.diffusion import schedule


def test_two_steps_by_hand():
    made = schedule.make(
        ScheduleConfig(num_steps=2, kappa=2.0, min_noise_level=0.2, sqrt_eta_end=0.5, cap_sqrt_eta_1=False)
    )
    np.testing.assert_allclose(made.sqrt_eta, [0.1, 0.5], rtol=1e-15)
    np.testing.assert_allclose(made.eta, [0.01, 0.25], rtol=1e-14)
    np.testing.assert_allclose(made.eta_prev, [0, 0.01], rtol=1e-14)
    np.testing.assert_allclose(made.alpha, [0.01, 0.24], rtol=1e-14)
    np.testing.assert_allclose(made.posterior_z_t, [0, 0.04], rtol=1e-14)
    np.testing.assert_allclose(made.posterior_z_0, [1, 0.96], rtol=1e-14)
    np.testing.assert_allclose(made.posterior_variance, [0, 4 * 0.04 * 0.24], rtol=1e-14)
    np.testing.assert_allclose(made.posterior_log_variance, [math.log(0.0384)] * 2, rtol=1e-13)
    np.testing.assert_allclose(made.m, [0, 0.2], rtol=1e-14)
    np.testing.assert_allclose(made.j, [0, 0.01 - 0.05], rtol=1e-14)
    np.testing.assert_allclose(made.k, [1, 1 - 0.01 + 0.05 - 0.2], rtol=1e-14)
    np.testing.assert_allclose(made.input_std, np.sqrt([1.04, 2.0]), rtol=1e-14)
    np.testing.assert_allclose(made.loss_weight, [0.5 / 0.0384, 0.5 * 0.96**2 / 0.0384], rtol=1e-13)


@pytest.mark.parametrize("name", schedule.PUBLISHED)
def test_published_schedules_rise_from_first_to_last(name: str):
    cfg = schedule.PUBLISHED[name]
    made = schedule.make(cfg)
    first = {"resshift_v3": 0.1, "resshift_bicsr_opencv_s15": math.sqrt(0.001)}.get(name, 0.02)
    assert made.sqrt_eta.dtype == np.float64
    assert made.num_steps == cfg.num_steps
    assert made.sqrt_eta[0] == pytest.approx(first)
    assert made.sqrt_eta[-1] == pytest.approx(0.99)
    assert (made.alpha > 0).all()
    np.testing.assert_allclose(made.k + made.m + made.j, 1, rtol=1e-14)


def test_respacing_keeps_the_published_steps_with_their_own_eta():
    full, kept = schedule.make(ScheduleConfig()), schedule.make(ScheduleConfig(), respace=4)
    assert kept.timestep_map.tolist() == [0, 3, 7, 11]
    np.testing.assert_array_equal(kept.sqrt_eta, full.sqrt_eta[[0, 3, 7, 11]])
    assert kept.sqrt_eta[-1] == pytest.approx(0.754, abs=5e-4)
    np.testing.assert_array_equal(kept.eta_prev[1:], kept.eta[:-1])


@pytest.mark.parametrize("respace", [0, 1, 16])
def test_impossible_respacing_is_refused(respace: int):
    with pytest.raises(ConfigError, match=f"respacing to {respace} steps: choose 2 to 15"):
        schedule.make(ScheduleConfig(), respace=respace)
