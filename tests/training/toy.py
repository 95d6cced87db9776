"""A task of two matrices, so that the loop's own behaviour is tested in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.layers import Linear
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.sharding import placed
from vdiffsr_jax.training.tasks.task import Evaluation, Export, LossTask, Placement


class TwoMatrices(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.inner = Linear(3, 64, rngs=rngs)
        self.outer = Linear(64, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.outer(jnp.tanh(self.inner(x)))


class ToyTask(LossTask):
    """Denoise pixels; random like the real ones, with a frozen network beside the trained one."""

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        self.networks = {"toy": build(TwoMatrices), "frozen": build(TwoMatrices)}

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        rng = np.random.default_rng(0)  # compiling an initialiser would take longer than all of the training
        shapes = self.abstract()
        return placed(placement, {name: 0.3 * rng.normal(size=s.shape).astype("f") for name, s in shapes.items()})

    def trainable(self, name: str) -> bool:
        return name.startswith("toy/")

    def group(self, name: str) -> str:
        return "new" if "outer" in name else "base"

    def loss(self, flat: Flat, batch: dict[str, jax.Array], key: jax.Array, step: jax.Array) -> tuple[jax.Array, Flat]:
        noise = jax.random.normal(key, batch["hr"].shape)
        made = self.apply("toy", flat, batch["hr"] + 0.1 * noise)
        loss = jnp.square(made - self.apply("frozen", flat, batch["hr"])).mean()
        return loss, {"mse": loss}

    def evaluate(self, flat: Flat, batch: dict[str, jax.Array], key: jax.Array) -> Evaluation:
        made = self.apply("toy", flat, batch["hr"])
        return Evaluation(made, {"error": jnp.square(made - batch["hr"]).mean(axis=(1, 2, 3))})

    def export(self, flat: Flat) -> Export:
        return Export("vqgan", VQGANConfig(), {})  # of which only kind and configuration are looked at


def toy_config(**changes: Any) -> TrainConfig:
    """Four samples of 16 pixels a step, on synthetic pictures."""
    values: dict[str, Any] = {
        "task": "vqgan",
        "model": VQGANConfig(),
        "data": {"synthetic_fraction": 1.0, "crop_size": 16, "degradation": "bicubic"},
        "batch_size": 8,
        "steps": 4,
        "log_every": 1,
        "optimizer": {"learning_rate": 1e-2, "warmup": 1, "schedule": "constant"},
        "mesh": {"min_shard_size": 1},
        "eval": {"every": 2, "batches": 1, "grid_rows": 2},
        "checkpoint": {"every": 2},
    }
    return parse_train(values | changes)


def use_toy(monkeypatch: Any, exported: list[Path] | None = None) -> None:
    """Let the loop train ToyTask; exported models are only noted."""
    from vdiffsr_jax.training import loop, tasks

    monkeypatch.setattr(tasks, "make", ToyTask)
    notes = [] if exported is None else exported
    monkeypatch.setattr(loop.Run, "_export", lambda self, directory: notes.append(directory))
