"""The step: same numbers for any layout and any accumulation, randomness from the step alone, non-finite is told."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.toy import ToyTask, toy_config
from vdiffsr_jax.training.config import MeshConfig
from vdiffsr_jax.training.optim import Optimizer
from vdiffsr_jax.training.sharding import Layout
from vdiffsr_jax.training.step import accumulated, create, make_program, make_train_step

RATE = jnp.asarray(1.0)
KEY = jax.random.key(3)


@functools.cache
def two_steps(fsdp: int, devices: int, accumulate: int = 1) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses and parameters after two steps of the toy task."""
    cfg = toy_config(accumulate=accumulate)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(-1, fsdp), ("data", "fsdp"))
    layout = Layout(mesh, MeshConfig(fsdp=fsdp, min_shard_size=1))
    task = ToyTask(cfg)
    flat = task.load(KEY, layout.parameter)
    params = {name: p for name, p in flat.items() if task.trainable(name)}
    frozen = {name: p for name, p in flat.items() if name not in params}
    program = make_program(task, params, layout)
    state = program.create(params)
    losses = []
    for i in range(2):
        hr = np.random.default_rng(i).uniform(-1, 1, (8, 4, 4, 3)).astype(np.float32)
        state, metrics = program.step(state, frozen, layout.put_batch({"hr": hr}), KEY, RATE)
        losses.append(float(metrics["loss"]))
    if fsdp > 1:
        moment = optax.tree_utils.tree_get(state.opt_state[0].inner_states["generator"], "mu")["toy/inner/kernel"]
        for array in (state.params["toy/inner/kernel"], state.ema["toy/inner/kernel"], moment):
            assert array.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp")
    return losses, jax.device_get(state.params)


@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_one_and_eight_devices_agree(fsdp):
    losses, params = two_steps(1, 1)
    sharded_losses, sharded = two_steps(fsdp, 8)
    np.testing.assert_allclose(sharded_losses, losses, rtol=2e-6)  # measured: 2e-7
    for name, p in params.items():
        np.testing.assert_allclose(sharded[name], p, rtol=1e-4, atol=2e-6)


def test_accumulated_gradients_are_the_mean_over_the_batch():
    def gradients(params, frozen, batch, key, step):
        value, grads = jax.value_and_grad(lambda p: jnp.square(batch["x"] @ p["w"]).mean())(params)
        return grads, {"loss": value}

    params, batch = {"w": jnp.arange(3.0)}, {"x": jax.random.normal(KEY, (8, 3))}
    want = gradients(params, {}, batch, KEY, 0)
    for parts in (2, 4, 8):
        got = accumulated(gradients, parts)(params, {}, batch, KEY, jnp.asarray(0))
        np.testing.assert_allclose(got[0]["w"], want[0]["w"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[1]["loss"], want[1]["loss"], rtol=1e-6)


def test_accumulated_parts_draw_different_noise():
    def gradients(params, frozen, batch, key, step):
        return {"w": jax.random.normal(key, ())}, {"loss": jnp.zeros(())}

    batch = {"x": jnp.zeros((4, 1))}
    got = accumulated(gradients, 2)({}, {}, batch, KEY, jnp.asarray(0))[0]["w"]
    each = [jax.random.normal(jax.random.fold_in(KEY, i), ()) for i in range(2)]
    np.testing.assert_allclose(got, sum(each) / 2, rtol=1e-6)
    assert each[0] != each[1]


def test_randomness_follows_the_step_and_not_finite_is_told():
    seen = []

    def gradients(params, frozen, batch, key, step):
        bad = jnp.where(step == 1, jnp.nan, 1.0)
        drawn = {"drawn": jax.random.normal(key, ())}
        return {"a/kernel": jax.random.normal(key, (2,)) * bad}, {"loss": jnp.zeros(())} | drawn

    optimizer = Optimizer(toy_config().optimizer, lambda name: "base")
    step = make_train_step(gradients, optimizer, ema_decay=0.9)
    state = create({"a/kernel": jnp.zeros((2,))}, optimizer)
    for _ in range(2):
        seen.append(step(state, {}, {}, KEY, RATE))
        state = seen[-1][0]
    assert [float(metrics["finite"]) for _, metrics in seen] == [1.0, 0.0]
    own = [jax.random.normal(jax.random.fold_in(KEY, i), ()) for i in range(2)]
    np.testing.assert_array_equal([metrics["drawn"] for _, metrics in seen], own)
    assert own[0] != own[1]
    again = step(create({"a/kernel": jnp.zeros((2,))}, optimizer), {}, {}, KEY, RATE)
    np.testing.assert_array_equal(again[0].params["a/kernel"], seen[0][0].params["a/kernel"])
    assert int(seen[1][0].step) == 2
