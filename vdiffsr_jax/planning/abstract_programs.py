"""The real train step and the real sampling step as compiled programs, without a weight or an image in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.models.assembled import Items, assemble
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.sampling.tile_model import tile_mesh
from vdiffsr_jax.sampling.tile_program import tile_program
from vdiffsr_jax.training.abstract import trace_step
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.flop_count import count_flops


class Program(NamedTuple):
    """A step, lowered but not compiled, its FLOPs and the bytes of its inputs on one device, by part."""

    lowered: jax.stages.Lowered
    flops: float
    inputs: dict[str, int]


def train_program(cfg: TrainConfig, devices: Sequence[jax.Device]) -> Program:
    """The step that `train.py` would run on these devices.

    Raises: ConfigError if the configuration does not fit them.
    """
    step = trace_step(cfg, devices)
    inputs = {
        "parameters": device_bytes(step.state.params),
        "average (EMA)": device_bytes(step.state.ema),
        "optimiser": device_bytes(step.state.opt_state),
        "frozen networks": device_bytes(step.frozen),
        "batch": device_bytes(step.batch),
    }
    return Program(step.traced.lower(), count_flops(step.traced.jaxpr) / len(devices), inputs)


def sampling_program(cfg: VDiffSRConfig, device: jax.Device, *, batch: int, dtype: str) -> Program:
    """The one-step program that `sample.py` would run on one device, VAR folded, weights rounded to `dtype`."""
    mesh = tile_mesh([device])
    folded = cfg

    def fold(items: Items) -> Items:
        nonlocal folded
        items, folded = fold_model(items, cfg)
        return items

    items = jax.eval_shape(fold, {name: network.abstract for name, network in assemble(cfg).networks.items()})
    model = assemble(folded, dtype=jnp.dtype(dtype))
    items = {name: jax.eval_shape(network.as_computed, items[name]) for name, network in model.networks.items()}
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("tiles"))
    params = jax.tree.map(lambda leaf: leaf.update(sharding=whole), items)
    lr = jax.ShapeDtypeStruct((batch, cfg.tile_size, cfg.tile_size, 3), jnp.float32, sharding=split)
    origins = jax.ShapeDtypeStruct((batch, 2), jnp.int32, sharding=split)
    key = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=whole)
    traced = tile_program(model, mesh, steps=1, method="ancestral").trace(params, lr, None, origins, key)
    inputs = {"parameters": device_bytes(params), "batch": device_bytes((lr, origins))}
    return Program(traced.lower(), count_flops(traced.jaxpr), inputs)


def device_bytes(tree: Any) -> int:
    """Bytes of the arrays on one device."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
