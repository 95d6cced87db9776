"""The losses with denoisers of one parameter: values and gradients by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.config import ConfigError, ScheduleConfig
from vdiffsr_jax.diffusion import losses, schedule

MADE = schedule.make(ScheduleConfig())
STD = float(MADE.input_std[-1])
ONES = jnp.ones((2, 2, 2, 1))
Z_T, Z_0_TEACHER, Z_0 = 3.0, 2.0, 1.0


def scaled(w):
    """f(x, t) = w STD x where t > 0, (w + 1) STD x at t = 0: with the std undone, w times the latent."""

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        return (w + (t == 0)).reshape(-1, 1, 1, 1) * STD * x

    return denoise


def terms(w, **options):
    return losses.student_terms(scaled(w), MADE, Z_T * ONES, Z_0_TEACHER * ONES, Z_0 * ONES, **options)[0]


def test_student_terms_by_hand():
    w = 0.5
    found = {name: np.asarray(term).tolist() for name, term in terms(jnp.float32(w)).items()}
    expected = {
        "distil": (w * Z_T - Z_0_TEACHER) ** 2,
        "inverse": ((w + 1) * Z_0_TEACHER - Z_T) ** 2,
        "gt": (w * (w + 1) * Z_0 - Z_0) ** 2,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value] * 2, atol=1e-6)


def test_the_predicted_noise_gets_no_gradient():
    """gt: d/dw (w sg((w + 1) z) - z)^2 = 2 (w (w + 1) - 1) (w + 1) z^2; through sg it would have (2 w + 1)."""
    w = 0.5
    slope = jax.grad(lambda w: terms(w)["gt"].mean())(jnp.float32(w))
    assert float(slope) == pytest.approx(2 * (w * (w + 1) - 1) * (w + 1), rel=1e-5)


def test_targets_get_no_gradient():
    def loss(z):
        found = losses.student_terms(scaled(jnp.float32(0.5)), MADE, z, z, z)[0]
        return losses.total(found, dict.fromkeys(found, 1.0)).sum()

    assert not jax.grad(loss)(ONES).any()


def test_without_inverse_the_cycle_is_left_out_unless_it_starts_from_z_t():
    assert terms(jnp.float32(0.5), inverse=False).keys() == {"distil"}
    sampled = terms(jnp.float32(0.5), inverse=False, gt_start="sampled")
    assert sampled.keys() == {"distil", "gt"}
    np.testing.assert_allclose(sampled["gt"], [(0.5 * Z_T - Z_0) ** 2] * 2, rtol=1e-6)


def test_inverse_is_not_called_without_its_term():
    def no_noise_prediction(x: jax.Array, t: jax.Array) -> jax.Array:
        assert (np.asarray(t) == 14).all()
        return x

    losses.student_terms(no_noise_prediction, MADE, ONES, ONES, ONES, inverse=False, gt_start="sampled")


def test_the_students_latent_comes_with_its_terms():
    _, made = losses.student_terms(scaled(jnp.float32(0.5)), MADE, Z_T * ONES, ONES, ONES)
    np.testing.assert_allclose(made, 0.5 * Z_T * ONES, rtol=1e-6)


def test_every_term_is_weighted():
    found = {"distil": jnp.ones(2), "perceptual": jnp.full(2, 1.5)}
    weights = {"distil": 0.25, "inverse": 0.0, "gt": 0.0, "perceptual": 4.0}
    np.testing.assert_allclose(losses.total(found, weights), [6.25, 6.25], rtol=1e-6)


def test_unknown_start_is_refused():
    with pytest.raises(ConfigError, match="gt_start='teacher' must be one of predicted, sampled"):
        terms(jnp.float32(0.5), gt_start="teacher")


def test_teacher_loss_scales_each_sample_by_its_own_step():
    t = jnp.array([0, 9], jnp.int32)
    seen = {}

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        seen.update(x=np.asarray(x[:, 0, 0, 0]), t=np.asarray(t).tolist())
        return jnp.zeros_like(x)

    loss = losses.teacher_loss(denoise, MADE, 3 * ONES, 5 * ONES, t, ONES)
    z_t = 3 + 2 * MADE.eta[[0, 9]] + 2 * MADE.sqrt_eta[[0, 9]]
    np.testing.assert_allclose(seen["x"], z_t / MADE.input_std[[0, 9]], rtol=1e-6)
    assert seen["t"] == [0, 9]
    np.testing.assert_allclose(loss, [9.0, 9.0])


def test_teacher_loss_tells_the_kept_step_after_respacing():
    told = []
    losses.teacher_loss(
        lambda x, t: told.append(np.asarray(t).tolist()) or x,
        schedule.make(ScheduleConfig(), respace=4),
        ONES,
        ONES,
        jnp.array([1, 3], jnp.int32),
        ONES,
    )
    assert told == [[3, 11]]


def test_uniform_t_covers_every_step_alike():
    counts = np.bincount(losses.uniform_t(jax.random.key(0), 15_000, MADE), minlength=15)
    assert len(counts) == 15
    assert 850 < counts.min() < counts.max() < 1150  # 1000 expected, sigma 31


def test_without_a_teacher_the_inverse_starts_from_the_students_own_latent():
    """Without a gradient through it: d/dw ((w + 1) sg(w z_T) - z_T)^2 = 2 ((w + 1) w z_T - z_T) w z_T."""

    def found(w):
        options = {"gt_start": "sampled"}
        by_name = losses.student_terms(scaled(w), MADE, Z_T * ONES, None, Z_0 * ONES, **options)[0]
        return {name: term.mean() for name, term in by_name.items()}

    w = 0.5
    left = (w + 1) * w * Z_T - Z_T
    values = {name: float(term) for name, term in found(jnp.float32(w)).items()}
    assert values == pytest.approx({"inverse": left**2, "gt": (w * Z_T - Z_0) ** 2}, abs=1e-5)
    slope = jax.grad(lambda w: found(w)["inverse"])(jnp.float32(w))
    assert float(slope) == pytest.approx(2 * left * w * Z_T, rel=1e-5)
