"""Checkpoints of networks: DIR/config.json (kind, configuration, sources) beside one item per network.

An item is a folder of orbax's, or a file of the hub's folder format (hub_folder.py), which is only read here.

A model appears, and takes the place of another, whole or not at all: see versions.py.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params, flatten, unflatten
from vdiffsr_jax.runtime import host_memory
from vdiffsr_jax.weights import hub_folder, storage, versions
from vdiffsr_jax.weights.batches import batches
from vdiffsr_jax.weights.formats import FORMAT, READABLE, means_another_branch
from vdiffsr_jax.weights.lazy_array import LazyArray
from vdiffsr_jax.weights.versions import CONFIG_FILE

READ_BYTES = 1 << 26  # together: a read of its own for every small array would take most of the time

Leaf = tuple[tuple[Any, ...], jax.ShapeDtypeStruct]  # where it stands in the tree, what it is
Placement = jax.sharding.Sharding | Callable[[str, jax.ShapeDtypeStruct], jax.sharding.Sharding]
Dtype = jnp.dtype | Callable[[str], jnp.dtype]


class CheckpointError(ValueError):
    """A checkpoint cannot be written or read; the message names the directory and says what to do."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A checkpoint in memory: `config` is the dataclass of `kind`, `items` the parameter trees by network."""

    kind: str
    config: Any
    items: dict[str, Params]
    sources: list[dict[str, Any]]


def save_model(
    directory: str | os.PathLike[str],
    items: Mapping[str, Params],
    *,
    kind: str,
    config: Any,
    sources: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
) -> None:
    """Write the networks of one model; in a job of several processes every process calls this.

    Args: items: {network: parameters}, exactly those of `kind`; leaves are arrays or LazyArrays. config: the
        dataclass of `kind`, or its plain values. sources: where the numbers come from, such as
        {"file": name, "sha256": digest}.
    Raises: CheckpointError if the directory exists and not `overwrite`, or if items or parameters do not fit the
        configuration; ConfigError.
    """
    from vdiffsr_jax.weights import orbax_items

    final = storage.place(directory)
    if not isinstance(config, Mapping):
        config = to_dict(config)
    parsed = kinds.parse_config(kind, config)
    _check_names(items, kinds.item_names(kind, parsed), f"items of {final}")
    for item, params in items.items():
        try:
            kinds.network(kind, item, parsed).check(params, f"{item} of {final}")
        except ConfigError:
            raise
        except ValueError as error:
            raise CheckpointError(str(error)) from None
    check_free(final, overwrite=overwrite)

    place, first = versions.place_for_next(final), jax.process_index() == 0
    _barrier("vdiffsr_save_checked")  # all have seen the same: nothing is changed before
    if first:
        versions.clear(final, place, items)
        place.mkdir(parents=True)
    _barrier("vdiffsr_save_begin")
    try:
        orbax_items.save({place / item: params for item, params in items.items()})
    except BaseException:
        if first:
            place.rmtree(missing_ok=True)
        raise
    _barrier("vdiffsr_save_end")
    if first:
        content = {"format": FORMAT, "kind": kind, "config": to_dict(parsed), "sources": list(sources)}
        versions.publish(final, place, content)
    _barrier("vdiffsr_save_published")
    if first:
        versions.drop_old(final, place)


def check_free(directory: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse to write where something is, before the work rather than after it.

    Raises: CheckpointError, also with `overwrite` if what is there is no checkpoint of ours.
    """
    path = storage.place(directory)
    if versions.is_free(path):
        return
    if not overwrite:
        raise CheckpointError(f"{path} exists; choose another directory or allow overwriting (--overwrite)")
    if not (path / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} exists and is no checkpoint (no {CONFIG_FILE}): it is not overwritten")


def read_config(directory: str | os.PathLike[str]) -> tuple[str, Any, list[dict[str, Any]]]:
    """(kind, configuration, sources) of a checkpoint, without its arrays.

    Raises: CheckpointError if the directory is no checkpoint of ours.
    """
    return _read_config(storage.place(directory))[:3]


def _read_config(path: epath.Path) -> tuple[str, Any, list[dict[str, Any]], epath.Path, int]:
    """(kind, configuration, sources, where the networks lie, format)."""
    file = path / CONFIG_FILE
    if not path.is_dir() or not file.is_file() or _is_run(path):
        raise CheckpointError(_no_checkpoint(path))
    try:
        content = json.loads(file.read_text())
        found, kind, config, sources = (content[key] for key in ("format", "kind", "config", "sources"))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from None
    if found not in READABLE:
        raise CheckpointError(f"{file} has format {found!r}; this version reads {' and '.join(map(str, READABLE))}")
    try:
        return kind, kinds.parse_config(kind, config), sources, versions.current(path, content), found
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _is_run(path: epath.Path) -> bool:
    """Whether it is the working directory of a training run, whose config.json is the run's."""
    return all((path / name).exists() for name in (CONFIG_FILE, "checkpoints")) or _inside(path) != []


def _inside(path: epath.Path) -> list[str]:
    return [str(path / name) for name in ("best", "model") if (path / name / CONFIG_FILE).is_file()]


def _no_checkpoint(path: epath.Path) -> str:
    """What is there instead, and what to do."""
    if path.is_file():
        name, stem = path.name, path.stem
        if re.search("sinsr|resshift", name, re.IGNORECASE):
            name = f"--denoiser {name} --first-stage autoencoder_vq_f4.pth"
        return (
            f"{path} is a file, not a checkpoint of this project; convert it first: "
            f"python convert_torch_weights.py {name} --output checkpoints/{stem}"
        )
    if not path.is_dir():
        return f"{path}: no such directory (convert_torch_weights.py --output makes checkpoints)"
    if found := _inside(path):
        return f"{path} is not a checkpoint but holds one: give {' or '.join(found)}"
    if _is_run(path):
        return f"{path} is a training run that has written no model yet: {path / 'model'} appears when it ends"
    return f"{path} is no checkpoint: it has no {CONFIG_FILE}"


def load_model(
    directory: str | os.PathLike[str],
    *,
    items: Collection[str] | None = None,
    dtype: Dtype | None = None,
    placement: Placement | None = None,
) -> Model:
    """Read a checkpoint straight into arrays where they shall lie.

    Args: items: which networks, all by default. dtype: of the floating parameters, or (parameter name) -> dtype; as
        stored by default. placement: one sharding for all, or (parameter name, its shape and dtype) -> sharding; this
        process's first device by default.
    Raises: CheckpointError if it is no checkpoint, lacks an item, or its parameters do not fit its configuration.
    """
    path = storage.place(directory)
    kind, config, sources, place, found = _read_config(path)
    known = kinds.item_names(kind, config)
    wanted = known if items is None else list(items)
    if unknown := [item for item in wanted if item not in known]:
        raise CheckpointError(f"{path} ({kind}) holds {', '.join(known)}; not {', '.join(unknown)}")
    if placement is None:
        placement = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    loaded = {}
    for item in wanted:
        abstract = kinds.network(kind, item, config).abstract
        loaded[item] = _restore(place / item, _target(place / item, abstract, dtype, placement))
        host_memory.release_unused()
    if "denoiser" in loaded and means_another_branch(found, config, loaded["denoiser"]):
        raise CheckpointError(
            f"{path} has format 1 and a trained same-scale branch (cspa.same), which read the prior's maps drawn out; "
            f"this version reads their cells: train it on as a new model, or use the version that made it"
        )
    return Model(kind, config, loaded, sources)


def load_lazily(directory: str | os.PathLike[str], item: str) -> Params:
    """One network's parameters as LazyArrays: each is read from the checkpoint when it is asked for.

    Raises: CheckpointError as `load_model` does.
    """
    path = storage.place(directory)
    kind, config, _, place, _ = _read_config(path)
    try:
        abstract = kinds.network(kind, item, config).abstract
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = _target(place / item, abstract, None, here)

    leaves, structure = jax.tree_util.tree_flatten_with_path(target)
    lazy: list[LazyArray] = []
    for part in batches(_sizes(leaves), READ_BYTES):
        batch = _Batch(place / item, leaves[part])
        lazy += [
            LazyArray(struct.shape, np.dtype(struct.dtype), functools.partial(batch.take, i))
            for i, (_, struct) in enumerate(leaves[part])
        ]
    return jax.tree.unflatten(structure, lazy)


class _Batch:
    """Arrays that are read together when the first is asked for; each is given away once, then read anew."""

    def __init__(self, path: epath.Path, leaves: Sequence[Leaf]):
        self.path, self.leaves = path, leaves
        self.arrays: dict[int, np.ndarray] = {}

    def take(self, i: int) -> np.ndarray:
        if i not in self.arrays:
            self.arrays = dict(enumerate(_read(self.path, self.leaves)))
        return self.arrays.pop(i)


def _restore(path: epath.Path, target: Params) -> Params:
    """The tree of `target`, a batch of arrays at a time: beside the result only one batch lies in memory."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(target)
    placed: list[jax.Array] = []
    for part in batches(_sizes(leaves), READ_BYTES):
        arrays = _read(path, leaves[part])
        placed += [_place(array, struct.sharding) for array, (_, struct) in zip(arrays, leaves[part], strict=True)]
    return jax.tree.unflatten(structure, placed)


def _sizes(leaves: Sequence[Leaf]) -> list[int]:
    return [struct.size * struct.dtype.itemsize for _, struct in leaves]


def _read(path: epath.Path, leaves: Sequence[Leaf]) -> list[np.ndarray]:
    try:
        return _format(path).read(path, leaves)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error


def _format(path: epath.Path) -> ModuleType:
    """Who reads this item: `stored(path)` gives shapes and dtypes by name, `read(path, leaves)` the numbers.

    Imported when it is needed: a folder from the hub does without orbax, a checkpoint without safetensors.
    """
    if hub_folder.file_of(path).is_file():
        return hub_folder
    from vdiffsr_jax.weights import orbax_items

    return orbax_items


def _place(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _target(path: epath.Path, abstract: Params, dtype: Dtype | None, placement: Placement) -> Params:
    """The tree to restore, after its names and shapes were compared with what is stored."""
    if not path.is_dir() and not hub_folder.file_of(path).is_file():
        raise CheckpointError(f"{path} is missing: the checkpoint is incomplete")
    want = flatten(abstract)
    try:
        stored = _format(path).stored(path, want)
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from error
    _check_names(stored, want, f"parameters in {path}")
    wrong = [
        f"{name} has shape {tuple(stored[name].shape)}, needs {struct.shape}"
        for name, struct in want.items()
        if tuple(stored[name].shape) != struct.shape
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


def _check_names(have: Collection[str], want: Collection[str], what: str) -> None:
    problems = [f"missing {name}" for name in want if name not in have]
    problems += [f"unexpected {name}" for name in have if name not in want]
    if problems:
        raise CheckpointError(f"{what} do not fit the configuration:\n  " + "\n  ".join(problems))


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
