"""AdamW over a flat dict of parameters: one optimiser per player, one learning rate per group, one schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vdiffsr_jax.training.config import OptimizerConfig

Flat = dict[str, jax.Array]
GROUPS = ("base", "new", "discriminator")


def rate_shape(cfg: OptimizerConfig, steps: int, step: jax.Array) -> jax.Array:
    """Learning rate over its peak, 0..1: linear warm-up, then constant or a cosine down to `cfg.final`."""
    rise = jnp.minimum(1.0, (step + 1) / max(cfg.warmup, 1))
    if cfg.schedule == "constant":
        return rise
    along = jnp.clip((step - cfg.warmup) / max(steps - cfg.warmup, 1), 0.0, 1.0)
    return rise * (cfg.final + (1 - cfg.final) * 0.5 * (1 + jnp.cos(jnp.pi * along)))


class Optimizer:
    """The players' optimisers; `group(name)` puts every parameter into one of GROUPS.

    The discriminator is a player of its own: its own moments, clipping and no weight decay.
    """

    def __init__(self, cfg: OptimizerConfig, steps: int, group: Callable[[str], str]):
        self.cfg = cfg
        self.steps = steps
        self.group = group
        self.peak = {
            "base": cfg.learning_rate,
            "new": cfg.learning_rate if cfg.new_learning_rate is None else cfg.new_learning_rate,
            "discriminator": cfg.learning_rate
            if cfg.discriminator_learning_rate is None
            else cfg.discriminator_learning_rate,
        }
        self.adam = {
            "generator": optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps),
            "discriminator": optax.scale_by_adam(cfg.discriminator_b1, cfg.discriminator_b2, cfg.eps),
        }

    def _players(self, flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        players: dict[str, dict[str, Any]] = {}
        for name, leaf in flat.items():
            player = "discriminator" if self.group(name) == "discriminator" else "generator"
            players.setdefault(player, {})[name] = leaf
        return players

    def init(self, params: Flat) -> dict[str, optax.OptState]:
        """{player: Adam's moments}."""
        return {player: self.adam[player].init(part) for player, part in self._players(params).items()}

    def update(
        self, grads: Flat, opt_state: dict[str, Any], params: Flat, step: jax.Array
    ) -> tuple[Flat, dict[str, Any], Flat]:
        """New parameters, new moments, and {norm of each player's gradient, learning rate}."""
        cfg = self.cfg
        shape = rate_shape(cfg, self.steps, step)
        metrics = {"learning_rate": shape * self.peak["base"]}
        new_params: Flat = {}
        new_state = {}
        for player, part in self._players(grads).items():
            norm = jnp.sqrt(sum(jnp.square(g).sum() for g in part.values()))
            metrics["grad_norm" if player == "generator" else "grad_norm_discriminator"] = norm
            if cfg.clip:
                scale = jnp.minimum(1.0, cfg.clip / jnp.maximum(norm, 1e-12))
                part = {name: g * scale for name, g in part.items()}
            moves, new_state[player] = self.adam[player].update(part, opt_state[player])
            for name, move in moves.items():
                if cfg.weight_decay and player == "generator" and name.endswith("/kernel"):
                    move = move + cfg.weight_decay * params[name]
                new_params[name] = params[name] - shape * self.peak[self.group(name)] * move
        return new_params, new_state, metrics
