"""One training step as one pure function: gradients, optimiser, average, metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdiffsr_jax.training.optim import Flat, Optimizer
from vdiffsr_jax.training.sharding import Layout
from vdiffsr_jax.training.state import TrainState, average

Batch = dict[str, jax.Array]
Gradients = Callable[[Flat, Flat, Batch, jax.Array, jax.Array], tuple[Flat, Flat]]
TrainStep = Callable[[TrainState, Flat, Batch, jax.Array], tuple[TrainState, Flat]]


def accumulated(gradients: Gradients, parts: int) -> Gradients:
    """The mean of gradients and metrics over `parts` equal parts of the batch, one after the other.

    Part i takes every parts-th sample, so that each device works through the samples it already holds.
    """
    if parts == 1:
        return gradients

    def mean(params: Flat, frozen: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[Flat, Flat]:
        split = {name: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) for name, x in batch.items()}

        def part(i: jax.Array, batch: Batch) -> tuple[Flat, Flat]:
            return gradients(params, frozen, batch, jax.random.fold_in(key, i), step)

        def add(total: Any, xs: tuple[jax.Array, Batch]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, part(*xs)), None

        abstract = jax.eval_shape(part, jnp.zeros((), jnp.int32), {name: x[0] for name, x in split.items()})
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), abstract)
        total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), split))
        return jax.tree.map(lambda x: x / parts, total)

    return mean


def make_train_step(gradients: Gradients, optimizer: Optimizer, *, ema_decay: float, accumulate: int = 1) -> TrainStep:
    """`train_step(state, frozen, batch, key) -> (state, metrics)`, not yet compiled.

    The step's randomness is fold_in(key, state.step), so a resumed run draws what an unbroken one draws. Metrics are
    scalars; `finite` is 1 while loss and gradients are finite.
    """
    gradients = accumulated(gradients, accumulate)

    def train_step(state: TrainState, frozen: Flat, batch: Batch, key: jax.Array) -> tuple[TrainState, Flat]:
        grads, metrics = gradients(state.params, frozen, batch, jax.random.fold_in(key, state.step), state.step)
        params, opt_state, measured = optimizer.update(grads, state.opt_state, state.params, state.step)
        ema = average(state.ema, params, state.step, ema_decay)
        watched = [metrics["loss"], *(value for name, value in measured.items() if name.startswith("grad_norm"))]
        finite = jnp.isfinite(jnp.stack(watched)).all().astype(jnp.float32)
        return TrainState(state.step + 1, params, opt_state, ema), metrics | measured | {"finite": finite}

    return train_step


def compile_step(train_step: TrainStep, abstract_state: Any, layout: Layout) -> jax.stages.Wrapped:
    """jit over the mesh: the state is donated and keeps its sharding, metrics are whole on every device."""
    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout.tree(abstract_state), layout.whole))
