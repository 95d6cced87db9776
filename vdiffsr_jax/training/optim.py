"""AdamW over a flat dict of parameters: one optimiser per player, one learning rate per group, one schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vdiffsr_jax.training.config import OptimizerConfig

Flat = dict[str, jax.Array]  # parameters or their gradients, {"network/path": array}
Metrics = Mapping[str, jax.Array]  # what was measured, {name: scalar}
Graded = tuple[Flat, Metrics]  # {parameter: gradient}, {metric: scalar}
GROUPS = ("base", "new", "discriminator")


def rate_shape(cfg: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate over its peak by step, 0..1: linear warm-up, then constant or a cosine down to `cfg.final`."""
    after = optax.constant_schedule(1.0)
    if cfg.schedule == "cosine":
        after = optax.cosine_decay_schedule(1.0, max(steps - cfg.warmup, 1), alpha=cfg.final)
    if not cfg.warmup:
        return after
    # Not optax's warmup_cosine_decay_schedule, which is at its peak one step earlier or moves nothing at first.
    rise = optax.linear_schedule(1 / cfg.warmup, 1.0, cfg.warmup - 1)
    return optax.join_schedules([rise, after], [cfg.warmup])


def rates(cfg: OptimizerConfig, steps: int) -> np.ndarray:
    """`rate_shape` at every step of a run, (steps,) float32."""
    shape = rate_shape(cfg, steps)(jnp.arange(steps))  # a constant one is a single number
    return np.broadcast_to(np.asarray(shape, np.float32), (steps,))


class Optimizer:
    """The players' optimisers; `group(name)` puts every parameter into one of GROUPS.

    The discriminator is a player of its own: its own moments, clipping and no weight decay.
    """

    def __init__(self, cfg: OptimizerConfig, group: Callable[[str], str]):
        self.group = group
        self.peak = dict.fromkeys(GROUPS, cfg.learning_rate)
        given = {"new": cfg.new_learning_rate, "discriminator": cfg.discriminator_learning_rate}
        self.peak |= {name: rate for name, rate in given.items() if rate is not None}
        clip = optax.clip_by_global_norm(cfg.clip) if cfg.clip else optax.identity()
        kernels = lambda tree: {name: name.endswith("/kernel") for name in tree}  # noqa: E731
        decay = optax.add_decayed_weights(cfg.weight_decay, kernels) if cfg.weight_decay else optax.identity()
        adam = optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps)
        against = optax.scale_by_adam(cfg.discriminator_b1, cfg.discriminator_b2, cfg.eps)
        players = {
            "generator": optax.chain(clip, adam, decay),
            "discriminator": optax.chain(clip, against),
        }
        rates = {name: optax.scale_by_learning_rate(peak) for name, peak in self.peak.items()}
        self.transform = optax.chain(
            optax.multi_transform(players, lambda tree: {name: self.player(name) for name in tree}),
            optax.multi_transform(rates, lambda tree: {name: group(name) for name in tree}),
        )

    def player(self, name: str) -> str:
        """Who owns the parameter: generator or discriminator."""
        return "discriminator" if self.group(name) == "discriminator" else "generator"

    def update(
        self, grads: Flat, opt_state: optax.OptState, params: Flat, rate: jax.Array
    ) -> tuple[Flat, optax.OptState, Metrics]:
        """New parameters, new moments, and {norm of each player's gradient, learning rate}.

        Args: rate: () factor of every peak rate, from `rate_shape`: an argument, so that a compiled step does not
            depend on how many there will be.
        """
        metrics = {"learning_rate": self.peak["base"] * rate}
        parts: dict[str, Flat] = {}
        for name, grad in grads.items():
            parts.setdefault(self.player(name), {})[name] = grad
        for player, part in parts.items():
            metrics["grad_norm" if player == "generator" else "grad_norm_discriminator"] = optax.tree.norm(part)
        moves, opt_state = self.transform.update(grads, opt_state, params)
        moves = {name: rate * move for name, move in moves.items()}
        return optax.apply_updates(params, moves), opt_state, metrics
