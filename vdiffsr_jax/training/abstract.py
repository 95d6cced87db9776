"""A run's train step without a number in memory: to be compiled ahead, or planned for devices that are not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import TrainConfig, check_batch
from vdiffsr_jax.training.sharding import Layout, make_mesh
from vdiffsr_jax.training.step import TrainState, make_program

Shapes = dict[str, jax.ShapeDtypeStruct]


class AbstractStep(NamedTuple):
    """The traced step, its inputs as shapes where they will lie, and {parameter: group of learning rate}."""

    traced: jax.stages.Traced
    state: TrainState
    frozen: Shapes
    batch: Shapes
    groups: Mapping[str, str]


def trace_step(cfg: TrainConfig, devices: Sequence[jax.Device] | None = None) -> AbstractStep:
    """The step that `train.py` runs on these devices, by default all that are here.

    Raises: ConfigError if the configuration does not fit them.
    """
    mesh = make_mesh(cfg.mesh, devices)
    check_batch(cfg, mesh.size)
    layout = Layout(mesh, cfg.mesh)
    task = tasks.make(cfg)
    params: Shapes = {}
    frozen: Shapes = {}
    for name, leaf in task.abstract().items():
        trained = task.trainable(name)
        place = (layout.parameter if trained else layout.frozen)(name, leaf)
        (params if trained else frozen)[name] = leaf.update(sharding=place)
    program = make_program(task, params, layout)
    side, small = cfg.data.crop_size, cfg.data.crop_size // cfg.data.scale
    sides = {"hr": side} | ({} if cfg.data.degradation == "none" else {"lr": small})
    batch = {
        name: jax.ShapeDtypeStruct((cfg.batch_size, s, s, 3), jnp.float32, sharding=layout.batch)
        for name, s in sides.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    traced = program.step.trace(program.abstract, frozen, batch, key, rate)
    return AbstractStep(traced, program.abstract, frozen, batch, program.groups)
