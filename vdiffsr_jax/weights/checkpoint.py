"""Checkpoints of networks: DIR/config.json (kind, configuration, sources) beside one item per network.

An item is a folder of orbax's, or a file of the hub's folder format (hub_folder.py), which is only read here.

A model appears, and takes the place of another, whole or not at all: see versions.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from vdiffsr_jax.config import ConfigError, ExpectedError, first_line, to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.runtime import host_memory
from vdiffsr_jax.weights import arrays, hub_folder, storage, versions, whole
from vdiffsr_jax.weights.arrays import Dtype, Placement
from vdiffsr_jax.weights.description import FORMAT, CheckpointError, check_free, described, means_another_branch

__all__ = ["CheckpointError", "Model", "check_free", "load_lazily", "load_model", "read_config", "save_model"]


@dataclasses.dataclass(frozen=True)
class Model:
    """A checkpoint in memory: `config` is the dataclass of `kind`, `items` the parameter trees by network."""

    kind: str
    config: Any
    items: dict[str, Params]
    sources: list[dict[str, Any]]


def read_config(directory: str | os.PathLike[str]) -> tuple[str, Any, list[dict[str, Any]]]:
    """(kind, configuration, sources) of a checkpoint, without its arrays.

    Raises: CheckpointError if the directory is no checkpoint of ours.
    """
    return described(storage.place(directory))[:3]


def save_model(
    directory: str | os.PathLike[str],
    items: Mapping[str, Params],
    *,
    kind: str,
    config: Any,
    sources: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
    compress: bool = False,
) -> None:
    """Write the networks of one model; in a job of several processes every process calls this.

    Args: items: {network: parameters}, exactly those of `kind`; leaves are arrays or LazyArrays. config: the
        dataclass of `kind`, or its plain values. sources: where the numbers come from, such as
        {"file": name, "sha256": digest}. compress: a fifth less of bfloat16, hardly anything of float32, for most of
        the time that saving then takes; what reads it need not know.
    Raises: CheckpointError if the directory exists and not `overwrite`, if items or parameters do not fit the
        configuration, or if the disk refuses; BusyError if another process saves there; ConfigError.
    """
    from vdiffsr_jax.weights import orbax_items

    final = storage.place(directory)
    if not isinstance(config, Mapping):
        config = to_dict(config)
    parsed = kinds.parse_config(kind, config)
    if sorted(items) != sorted(known := kinds.item_names(kind, parsed)):
        raise CheckpointError(f"{final}: a {kind} of this configuration has {', '.join(known)}, not {', '.join(items)}")
    for item, params in items.items():
        try:
            kinds.network(kind, item, parsed).check(params, f"{item} of {final}")
        except ConfigError:
            raise
        except ValueError as error:
            raise CheckpointError(str(error)) from None
    check_free(final, overwrite=overwrite)
    content = {"format": FORMAT, "kind": kind, "config": to_dict(parsed), "sources": list(sources)}
    first = jax.process_index() == 0
    with _writing(final), whole.alone(final) if first else contextlib.nullcontext():
        _barrier("vdiffsr_save_alone")
        check_free(final, overwrite=overwrite)  # nobody else changes it from here on
        place = versions.place(final, _of_first(versions.next_number(final)))
        old = _networks(final) if first and not versions.is_free(final) else []
        _barrier("vdiffsr_save_checked")  # all have seen the same: nothing is changed before
        if first:
            versions.clear(final, place)
        try:
            if first:
                place.mkdir(parents=True)
            _barrier("vdiffsr_save_begin")
            orbax_items.save({place / item: params for item, params in items.items()}, compress=compress)
            _barrier("vdiffsr_save_end")
            if first:
                versions.publish(final, place, content)
        except BaseException:
            if first:
                with contextlib.suppress(OSError):  # what failed is to be said; the next save clears the rest
                    versions.clear(final, place)
            raise
        _barrier("vdiffsr_save_published")
        if first:
            versions.drop_old(final, place, old)


@contextlib.contextmanager
def _writing(final: epath.Path) -> Iterator[None]:
    """A disk that refuses, in a line."""
    try:
        yield
    except ExpectedError:
        raise
    except OSError as error:
        raise CheckpointError(f"{final} cannot be written: {first_line(error)}") from error


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
    kind, config, sources, place, found = described(path)
    known = kinds.item_names(kind, config)
    wanted = known if items is None else list(items)
    if unknown := [item for item in wanted if item not in known]:
        raise CheckpointError(f"{path} ({kind}) holds {', '.join(known)}; not {', '.join(unknown)}")
    if placement is None:
        placement = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    loaded = {}
    for item in wanted:
        abstract = kinds.network(kind, item, config).abstract
        loaded[item] = arrays.read(place / item, abstract, dtype, placement)
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
    found = described(path)
    try:
        abstract = kinds.network(found.kind, item, found.config).abstract
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return arrays.lazily(found.place / item, abstract)


def _networks(path: epath.Path) -> list[epath.Path]:
    """Folders and files of a checkpoint's networks; what else lies beside them is somebody else's."""
    found = described(path)
    folders = [found.place / item for item in kinds.item_names(found.kind, found.config)]
    return [*folders, *map(hub_folder.file_of, folders)]


def _of_first(number: int) -> int:
    """Process 0's: to the others a disk may show what was there before."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number))) if jax.process_count() > 1 else number


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
