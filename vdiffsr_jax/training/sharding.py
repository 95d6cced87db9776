"""Where every array lies on the mesh (data, fsdp): one strict, ordered table of name patterns.

Batches are split over both axes; a parameter is split over fsdp along the first of its rule's axes that divides, or
lies whole on every device.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vdiffsr_jax.config import ConfigError, ExpectedError
from vdiffsr_jax.training.config import MeshConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class ShardRule:
    """`pattern` must match the whole parameter name; `axes` are tried in order, none keeps the array whole."""

    pattern: str
    axes: tuple[int, ...] = ()


# The first matching rule counts. Outputs of kernels are split first: their gradients then need no further sum.
TABLE = (
    ShardRule(r".*/(codebook|class_embed|pos)", (0, 1)),
    ShardRule(r".*/(pos_start|level_embed|mix|ada_gss|head_gss|heads/\d+)"),
    ShardRule(r".*/lora_a", (0,)),
    ShardRule(r".*/lora_b", (1,)),
    ShardRule(r".*/kernel", (-1, -2)),
    ShardRule(r".*/(scale|bias|mean|variance|var|q_bias|v_bias|log_scale|bias_table|level_bias|alpha|beta)"),
)


class ShardingError(ExpectedError, ValueError):
    """A parameter that no rule knows."""


def match(name: str) -> ShardRule:
    """The first rule whose pattern is the whole name. Raises: ShardingError if there is none."""
    for rule in TABLE:
        if re.fullmatch(rule.pattern, name):
            return rule
    raise ShardingError(f"no sharding rule matches the parameter {name!r}: add one to training/sharding.py")


def use_cpu_devices(configs: Iterable[TrainConfig]) -> None:
    """Make the virtual devices of a CPU that runs ask for (mesh.cpu_devices), before JAX begins.

    Raises: ConfigError if it has begun with another number.
    """
    count = max(cfg.mesh.cpu_devices for cfg in configs)
    if not count:
        return
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # it has begun
        if jax.default_backend() == "cpu" and (have := jax.local_device_count()) != count:
            raise ConfigError(
                f"mesh.cpu_devices={count}: JAX has begun with {have} here; train before anything else uses JAX"
            ) from None


def make_mesh(cfg: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices, or the given ones, as (data, fsdp).

    TPU slices that only a data-centre network joins are replicas: they divide `data`, and fsdp stays inside each.

    Raises: ConfigError if their number does not fit.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    data = cfg.data or count // cfg.fsdp
    if data * cfg.fsdp != count:
        raise ConfigError(f"mesh.data={cfg.data or 'all'} x mesh.fsdp={cfg.fsdp} does not use the {count} devices here")
    return Mesh(device_grid(devices, data, cfg.fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def device_grid(devices: Sequence[jax.Device], data: int, fsdp: int) -> np.ndarray:
    """(data, fsdp) devices, neighbours close in the network; slices follow each other along `data`.

    Raises: ConfigError if fsdp would reach over slices.
    """
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh((data, fsdp), devices, allow_split_physical_axes=True)
    if data % slices:
        raise ConfigError(
            f"mesh.fsdp={fsdp} must divide the {len(devices) // slices} devices of each of the {slices} slices"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (data // slices, fsdp), (slices, 1), devices, allow_split_physical_axes=True
    )


class Layout:
    """Shardings on one mesh."""

    def __init__(self, mesh: Mesh, cfg: MeshConfig):
        self.mesh = mesh
        self.cfg = cfg
        self.whole = NamedSharding(mesh, PartitionSpec())
        self.batch = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

    def parameter(self, name: str, like: Any) -> NamedSharding:
        """Of one parameter, or of anything of its shape (moments, averages)."""
        rule, shape, fsdp = match(name), like.shape, self.cfg.fsdp
        if fsdp > 1 and np.prod(shape, dtype=np.int64) >= self.cfg.min_shard_size:
            for axis in rule.axes:
                if shape[axis] % fsdp == 0:
                    spec: list[str | None] = [None] * len(shape)
                    spec[axis] = "fsdp"
                    return NamedSharding(self.mesh, PartitionSpec(*spec))
        return self.whole

    def frozen(self, name: str, like: Any) -> NamedSharding:
        """Of one parameter of a frozen network."""
        return self.parameter(name, like) if self.cfg.shard_frozen else self.whole

    def tree(self, abstract: Any) -> Any:
        """Shardings of a train state: leaves under a flat dict of parameters lie like the parameter of that name."""

        def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            name = str(getattr(path[-1], "key", ""))
            return self.parameter(name, leaf) if "/" in name else self.whole

        return jax.tree_util.tree_map_with_path(place, abstract)

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """This process's part of a batch as part of the global one."""
        return {name: jax.make_array_from_process_local_data(self.batch, part) for name, part in batch.items()}


def placed(placement: Callable[[str, Any], jax.sharding.Sharding], flat: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Every array where `placement` wants it."""
    return {name: jax.device_put(leaf, placement(name, leaf)) for name, leaf in flat.items()}
