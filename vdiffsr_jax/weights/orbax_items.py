"""One network on disk by orbax: written a few arrays at a time, read in the batches that are asked for."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vdiffsr_jax.config import ExpectedError, first_line
from vdiffsr_jax.models.build import Params, flatten
from vdiffsr_jax.runtime.batches import batches
from vdiffsr_jax.weights.arrays import Leaf
from vdiffsr_jax.weights.lazy_array import LazyArray

WRITE_BYTES = 1 << 23
_STATUS = re.compile(r"[A-Z_]+: ")  # how the ValueErrors begin by which tensorstore reports a full disk


def check_version() -> None:
    """Raises: ExpectedError if this orbax is too old: nothing else asks what a machine brought along."""
    if "deepcopy_host_arrays" not in inspect.signature(ocp.type_handlers.NumpyHandler).parameters:
        have = metadata.version("orbax-checkpoint")
        raise ExpectedError(f"orbax-checkpoint {have} is too old: pip install 'orbax-checkpoint>=0.12.8'")


def save(items: Mapping[epath.Path, Params], *, compress: bool) -> None:
    """Write each tree to its folder; in a job of several processes every process calls this.

    Raises: OSError if the disk refuses.
    """
    silence_failures()
    try:
        with _quiet(), ocp.Checkpointer(_handler(compress=compress)) as checkpointer:
            for path, params in items.items():
                checkpointer.save(path, args=ocp.args.PyTreeSave(params))
    except ValueError as error:
        if not _STATUS.match(str(error)):
            raise
        raise OSError(str(error)) from error


def silence_failures() -> None:
    """What fails while it is written is raised once, and said by who catches it.

    Orbax logs a trace in each of its threads that fails, asyncio in each of its tasks, some of them after the save; and
    what had not begun to be written is never awaited.
    """
    warnings.filterwarnings("ignore", r"coroutine '.*(serialize|write)[^.]*' was never awaited", RuntimeWarning)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _without_late_writes


def _without_late_writes(
    unraisable: sys.UnraisableHookArgs, report: Callable[[sys.UnraisableHookArgs], Any] = sys.unraisablehook
) -> None:
    """`report`, but for writes that end after one beside them has failed: their event loop has gone with that one."""
    if str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)


def stored(path: epath.Path, want: Collection[str]) -> dict[str, Any]:
    """{parameter: its shape and dtype} of what is there, whatever is wanted.

    Raises: ValueError or OSError if that cannot be told.
    """
    with _quiet(), _reader() as checkpointer:
        try:
            found = flatten(checkpointer.handler.metadata(path).tree)
            return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in found.items()}
        except OSError:
            raise
        except Exception as error:  # orbax trusts its own files, and meets damaged ones with any error
            what = first_line(error).partition(" [tensorstore_spec")[0]
            raise ValueError(f"its list of arrays cannot be read ({what})") from error


def read(path: epath.Path, leaves: Sequence[Leaf]) -> list[np.ndarray]:
    """The arrays of these leaves of a tree, in its order, cast as they say.

    Raises: ValueError or OSError if they are damaged.
    """
    tree: dict[Any, Any] = {}
    for keys, struct in leaves:
        branch = tree
        for key in keys[:-1]:
            branch = branch.setdefault(key.key, {})
        branch[keys[-1].key] = struct
    how = jax.tree.map(lambda struct: ocp.RestoreArgs(restore_type=np.ndarray, dtype=struct.dtype), tree)
    with _quiet(), _reader() as checkpointer:
        return jax.tree.leaves(checkpointer.restore(path, args=ocp.args.PyTreeRestore(tree, how, partial_restore=True)))


class _Awaited:
    """Waits for what is known of every array, also when one fails: orbax leaves the others behind, to fail aloud."""

    async def metadata(self, infos: Sequence[Any]) -> Sequence[Any]:
        each = super().metadata  # type: ignore[misc]
        found = await asyncio.gather(*(each([info]) for info in infos), return_exceptions=True)
        shapes: list[Any] = []
        for of_one in found:
            if isinstance(of_one, BaseException):
                raise of_one
            shapes += of_one
        return shapes


class _Placed(_Awaited, ocp.type_handlers.ArrayHandler):
    """Arrays of jax."""


class BoundedArrays(_Awaited, ocp.type_handlers.NumpyHandler):
    """Writes a few arrays at a time, lazy ones too, and reads one after the other.

    Orbax's own handlers want all values of a tree at once, and leave reads behind when one of them fails.
    """

    def __init__(self) -> None:
        check_version()
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(self, values: Sequence[Any], infos: Sequence[Any], args: Any = None) -> Sequence[Any]:
        for part in batches([value.size * value.dtype.itemsize for value in values], WRITE_BYTES):
            arrays = [np.asarray(value, order="C") for value in values[part]]
            for written in await super().serialize(arrays, infos[part], args and args[part]):
                written.result()
        return []

    async def deserialize(self, infos: Sequence[Any], args: Any = None) -> Sequence[np.ndarray]:
        return [
            (await super(BoundedArrays, self).deserialize([info], args and args[i : i + 1]))[0]
            for i, info in enumerate(infos)
        ]


def _handler(*, compress: bool = False) -> ocp.PyTreeCheckpointHandler:
    types = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, BoundedArrays()),
        (LazyArray, BoundedArrays()),
        (jax.Array, _Placed(array_metadata_store=None)),
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=types, use_compression=compress)


def _reader() -> ocp.Checkpointer:
    """Of this process alone: one that reads another model, or none, is not waited for."""
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )
    return ocp.Checkpointer(_handler(), multiprocessing_options=alone)


class _quiet:  # noqa: N801  (used as a statement)
    """Orbax reports every step on absl's logger."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("absl")
        self.level = self.logger.level
        self.logger.setLevel(max(self.level, logging.ERROR))

    def __exit__(self, *exception: object) -> None:
        self.logger.setLevel(self.level)
