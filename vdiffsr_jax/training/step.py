"""One training step as one pure function: gradients, optimiser, average, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vdiffsr_jax.training.optim import Flat, Graded, Metrics, Optimizer
from vdiffsr_jax.training.sharding import Layout

if TYPE_CHECKING:
    from vdiffsr_jax.training.tasks.task import Task

Batch = dict[str, jax.Array]
Gradients = Callable[[Flat, Flat, Batch, jax.Array, jax.Array], Graded]
AfterUpdate = Callable[[Flat, Batch, jax.Array, jax.Array], Flat]


class TrainState(NamedTuple):
    """What changes from step to step, and nothing else: frozen networks travel beside it.

    step: () int32, steps done. params, ema: {"network/path": array}, float32; ema has no discriminator.
    """

    step: jax.Array
    params: Flat
    opt_state: optax.OptState
    ema: Flat


TrainStep = Callable[[TrainState, Flat, Batch, jax.Array, jax.Array], tuple[TrainState, Metrics]]


def create(params: Flat, optimizer: Optimizer) -> TrainState:
    """The state before the first step; the average starts at the parameters themselves."""
    ema = {name: jnp.copy(p) for name, p in params.items() if optimizer.player(name) == "generator"}
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.transform.init(params), ema)


def average(ema: Flat, params: Flat, step: jax.Array, decay: float) -> Flat:
    """ema d + params (1 - d), with d = min(decay, (1 + step) / (10 + step)) so that early averages follow quickly."""
    d = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return {name: d * value + (1 - d) * params[name] for name, value in ema.items()}


def accumulated(gradients: Gradients, parts: int) -> Gradients:
    """The mean of gradients and metrics over `parts` equal parts of the batch, one after the other.

    Part i takes every parts-th sample, so that each device works through the samples it already holds.
    """
    if parts == 1:
        return gradients

    def mean(params: Flat, frozen: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> Graded:
        split = {name: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) for name, x in batch.items()}

        def part(i: jax.Array, batch: Batch) -> Graded:
            return gradients(params, frozen, batch, jax.random.fold_in(key, i), step)

        def add(total: Any, xs: tuple[jax.Array, Batch]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, part(*xs)), None

        abstract = jax.eval_shape(part, jnp.zeros((), jnp.int32), {name: x[0] for name, x in split.items()})
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), abstract)
        total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), split))
        averaged: Graded = jax.tree.map(lambda x: x / parts, total)
        return averaged

    return mean


def make_train_step(
    gradients: Gradients,
    optimizer: Optimizer,
    *,
    ema_decay: float,
    accumulate: int = 1,
    after_update: AfterUpdate | None = None,
) -> TrainStep:
    """`train_step(state, frozen, batch, key, rate) -> (state, metrics)`, not yet compiled; rate as in `optim`.

    The step's randomness is fold_in(key, state.step), so a resumed run draws what an unbroken one draws. Metrics are
    scalars; `finite` is 1 while loss and gradients are finite. `after_update(params, batch, key, step)` may change the
    parameters that the optimiser just made.
    """
    gradients = accumulated(gradients, accumulate)

    def train_step(
        state: TrainState, frozen: Flat, batch: Batch, key: jax.Array, rate: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        grads, metrics = gradients(state.params, frozen, batch, key, state.step)
        params, opt_state, measured = optimizer.update(grads, state.opt_state, state.params, rate)
        if after_update is not None:
            params = after_update(params, batch, key, state.step)
        ema = average(state.ema, params, state.step, ema_decay)
        watched = [metrics["loss"], *(value for name, value in measured.items() if name.startswith("grad_norm"))]
        finite = jnp.isfinite(jnp.stack(watched)).all().astype(jnp.float32)
        return TrainState(state.step + 1, params, opt_state, ema), {**metrics, **measured, "finite": finite}

    return train_step


class Compiled(NamedTuple):
    """A step, traced and compiled for parameters of these learning rates, {parameter: group}."""

    traced: jax.stages.Traced
    program: jax.stages.Compiled
    groups: Mapping[str, str]


class TrainProgram(NamedTuple):
    """What a run compiles: `create(params)` gives the first state, `abstract` is a state's shapes where they lie.

    groups: {parameter: group}, whose learning rates are constants of the step.
    """

    create: Callable[[Flat], TrainState]
    abstract: TrainState
    step: jax.stages.Wrapped
    groups: Mapping[str, str]


def make_program(task: Task[Any, Any], params: Mapping[str, Any], layout: Layout) -> TrainProgram:
    """The programs of one run, jitted over the mesh; `params` may be arrays or their shapes.

    The step's state is donated and keeps its sharding, metrics are whole on every device.
    """
    cfg, optimizer = task.cfg, Optimizer(task.cfg.optimizer, task.group)
    shapes = jax.eval_shape(lambda params: create(params, optimizer), params)
    shardings = layout.tree(shapes)
    abstract = jax.tree.map(lambda s, where: s.update(sharding=where), shapes, shardings)
    step = make_train_step(
        task.gradients, optimizer, ema_decay=cfg.ema_decay, accumulate=cfg.accumulate, after_update=task.after_update
    )
    first = jax.jit(lambda params: create(params, optimizer), out_shardings=shardings)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings, layout.whole))
    return TrainProgram(first, abstract, jitted, {name: task.group(name) for name in params})
