"""What changes from step to step, and nothing else: frozen networks travel beside it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vdiffsr_jax.training.optim import Flat, Optimizer


class TrainState(NamedTuple):
    """step: () int32, steps done. params, ema: {"network/path": array}, float32; ema has no discriminator."""

    step: jax.Array
    params: Flat
    opt_state: optax.OptState
    ema: Flat


def create(params: Flat, optimizer: Optimizer) -> TrainState:
    """The state before the first step; the average starts at the parameters themselves."""
    ema = {name: jnp.copy(p) for name, p in params.items() if optimizer.player(name) == "generator"}
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), ema)


def average(ema: Flat, params: Flat, step: jax.Array, decay: float) -> Flat:
    """ema d + params (1 - d), with d = min(decay, (1 + step) / (10 + step)) so that early averages follow quickly."""
    d = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return {name: d * value + (1 - d) * params[name] for name, value in ema.items()}
