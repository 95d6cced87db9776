"""AdamW by hand, one rate per group, one clip per player, the schedule's corners."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vdiffsr_jax.training.config import OptimizerConfig
from vdiffsr_jax.training.optim import Optimizer, rate_shape, rates
from vdiffsr_jax.training.step import average

PARAMS = {"net/a/kernel": jnp.array([[1.0, -2.0]]), "net/new/bias": jnp.array([0.5]), "disc/kernel": jnp.array([[3.0]])}
GRADS = {"net/a/kernel": jnp.array([[3.0, 4.0]]), "net/new/bias": jnp.array([12.0]), "disc/kernel": jnp.array([[0.5]])}


def group(name: str) -> str:
    return "discriminator" if name.startswith("disc") else "new" if "/new/" in name else "base"


def test_schedule():
    cfg = OptimizerConfig(warmup=10, final=0.1)
    shape = [float(rate_shape(cfg, 110)(step)) for step in (0, 9, 10, 60, 110, 500)]
    np.testing.assert_allclose(shape, [0.1, 1.0, 1.0, 0.55, 0.1, 0.1], atol=1e-6)
    constant = OptimizerConfig(warmup=4, schedule="constant")
    np.testing.assert_allclose([float(rate_shape(constant, 10)(s)) for s in (1, 3, 9)], [0.5, 1, 1])
    at_once = [float(rate_shape(OptimizerConfig(warmup=w), 11)(s)) for w, s in ((0, 0), (1, 0), (1, 1), (1, 6))]
    np.testing.assert_allclose(at_once, [1, 1, 1, 0.5], atol=1e-6)


@pytest.mark.parametrize("warmup", [0, 1, 2])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_every_step_has_a_rate(schedule, warmup):
    cfg = OptimizerConfig(warmup=warmup, schedule=schedule)
    assert rates(cfg, 3).shape == (3,)
    np.testing.assert_allclose(rates(cfg, 3), [rate_shape(cfg, 3)(step) for step in range(3)], rtol=1e-6)


def test_one_step_by_hand():
    cfg = OptimizerConfig(
        learning_rate=0.1, new_learning_rate=0.4, discriminator_learning_rate=0.2, warmup=1, schedule="constant",
        weight_decay=0.5, clip=1.0, b1=0.9, b2=0.99, eps=0.0,
    )  # fmt: skip
    optimizer = Optimizer(cfg, group)
    params, _, metrics = optimizer.update(GRADS, optimizer.transform.init(PARAMS), PARAMS, jnp.asarray(1.0))
    assert float(metrics["grad_norm"]) == pytest.approx(13.0)
    assert float(metrics["grad_norm_discriminator"]) == pytest.approx(0.5)
    # Adam's first move is the sign of the gradient; decay acts on kernels of the generator only.
    np.testing.assert_allclose(params["net/a/kernel"], [[1.0 - 0.1 * (1 + 0.5), -2.0 - 0.1 * (1 - 1.0)]], rtol=1e-5)
    np.testing.assert_allclose(params["net/new/bias"], [0.5 - 0.4], rtol=1e-5)
    np.testing.assert_allclose(params["disc/kernel"], [[3.0 - 0.2]], rtol=1e-5)


def test_many_steps_equal_optax():
    cfg = OptimizerConfig(learning_rate=0.01, warmup=1, schedule="constant", clip=5.0, b1=0.9, b2=0.95)
    ours, state = dict(PARAMS), None
    optimizer = Optimizer(cfg, lambda name: "base")
    state = optimizer.transform.init(ours)
    theirs = dict(PARAMS)
    reference = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(0.01, 0.9, 0.95))
    reference_state = reference.init(theirs)
    for step in range(5):
        grads = {name: g * (step - 2.5) for name, g in GRADS.items()}
        ours, state, _ = optimizer.update(grads, state, ours, jnp.asarray(1.0))
        moves, reference_state = reference.update(grads, reference_state)
        theirs = optax.apply_updates(theirs, moves)
    for name in PARAMS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


def test_average_follows_quickly_at_first():
    ema, params = {"a": jnp.array(0.0)}, {"a": jnp.array(1.0)}
    assert float(average(ema, params, jnp.asarray(0), 0.999)["a"]) == pytest.approx(0.9)
    assert float(average(ema, params, jnp.asarray(10**6), 0.999)["a"]) == pytest.approx(0.001, rel=1e-3)
