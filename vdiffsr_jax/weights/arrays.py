"""One network's arrays, compared with what its configuration says, read in batches or when they are asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vdiffsr_jax.config import first_line
from vdiffsr_jax.models.build import Params, flatten, misfits, unflatten
from vdiffsr_jax.runtime.batches import batches
from vdiffsr_jax.weights import hub_folder
from vdiffsr_jax.weights.description import CheckpointError
from vdiffsr_jax.weights.lazy_array import LazyArray

READ_BYTES = 1 << 26  # together: a read of its own for every small array would take most of the time

Leaf = tuple[tuple[Any, ...], jax.ShapeDtypeStruct]  # where it stands in the tree, what it is
Placement = jax.sharding.Sharding | Callable[[str, jax.ShapeDtypeStruct], jax.sharding.Sharding]
Dtype = jnp.dtype | Callable[[str], jnp.dtype]


def read(path: epath.Path, abstract: Params, dtype: Dtype | None, placement: Placement) -> Params:
    """The arrays of the item at `path` where they shall lie; beside the result only one batch is in memory.

    Args: abstract: names and shapes there must be. dtype, placement: as `checkpoint.load_model` takes them.
    Raises: CheckpointError.
    """
    target = _target(path, abstract, dtype, placement)
    placed: Params = jax.tree.map(lambda x, struct: _place(x.read(), struct.sharding), _lazy(path, target), target)
    return placed


def lazily(path: epath.Path, abstract: Params) -> Params:
    """The same as LazyArrays: each is read when it is asked for, with its neighbours. Raises: CheckpointError."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return _lazy(path, _target(path, abstract, None, here))


def _lazy(path: epath.Path, target: Params) -> Params:
    leaves, structure = jax.tree_util.tree_flatten_with_path(target)
    lazy: list[LazyArray] = []
    for part in batches([struct.size * struct.dtype.itemsize for _, struct in leaves], READ_BYTES):
        batch = _Batch(path, leaves[part])
        lazy += [
            LazyArray(struct.shape, np.dtype(struct.dtype), functools.partial(batch.take, i))
            for i, (_, struct) in enumerate(leaves[part])
        ]
    params: Params = jax.tree.unflatten(structure, lazy)
    return params


class _Batch:
    """Arrays that are read together when the first is asked for; each is given away once, then read anew."""

    def __init__(self, path: epath.Path, leaves: Sequence[Leaf]):
        self.path, self.leaves = path, leaves
        self.arrays: dict[int, np.ndarray] = {}

    def take(self, i: int) -> np.ndarray:
        if i not in self.arrays:
            self.arrays = dict(enumerate(_read(self.path, self.leaves)))
        return self.arrays.pop(i)


def _read(path: epath.Path, leaves: Sequence[Leaf]) -> list[np.ndarray]:
    try:
        arrays: list[np.ndarray] = _format(path).read(path, leaves)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error
    return arrays


def _format(path: epath.Path) -> ModuleType:
    """Who reads this item: `stored(path)` gives shapes and dtypes by name, `read(path, leaves)` the numbers.

    Imported when it is needed: a folder from the hub does without orbax, a checkpoint without safetensors.
    """
    if hub_folder.file_of(path).is_file():
        return hub_folder
    from vdiffsr_jax.weights import orbax_items

    return orbax_items


def _place(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    placed: jax.Array
    if sharding.is_fully_addressable:
        placed = jax.device_put(array, sharding)
    else:
        placed = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    return placed


def _target(path: epath.Path, abstract: Params, dtype: Dtype | None, placement: Placement) -> Params:
    """The tree to restore, after its names, shapes and types were compared with what is stored."""
    if not path.is_dir() and not hub_folder.file_of(path).is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is incomplete")
    want = flatten(abstract)
    try:
        stored = _format(path).stored(path, want)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error
    floating = {name for name, struct in want.items() if jnp.issubdtype(struct.dtype, jnp.floating)}
    wrong = misfits(stored, want) + [
        f"{name} is {stored[name].dtype}, needs floating numbers (quantised?)"
        for name in sorted(floating & stored.keys())
        if not jnp.issubdtype(stored[name].dtype, jnp.floating)
    ]
    if wrong:
        raise CheckpointError(f"parameters in {path} do not fit its configuration:\n  " + "\n  ".join(wrong))
    target = {}
    for name, struct in want.items():
        kept = jnp.dtype(stored[name].dtype)
        final = kept
        if dtype is not None and jnp.issubdtype(kept, jnp.floating):
            asked: Any = dtype(name) if inspect.isroutine(dtype) else dtype
            final = jnp.dtype(asked)
        shape = jax.ShapeDtypeStruct(struct.shape, final)
        where = placement if isinstance(placement, jax.sharding.Sharding) else placement(name, shape)
        target[name] = jax.ShapeDtypeStruct(struct.shape, final, sharding=where)
    return unflatten(target, abstract)
