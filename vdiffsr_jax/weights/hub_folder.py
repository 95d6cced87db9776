"""The hub's folder format: config.json beside one ITEM.safetensors per network, arrays in PyTorch's layout.

A parameter `a/0/kernel` of ours is the tensor `a.0.weight`: a linear map is (out, in), a convolution OIHW. Which tensor
fills which parameter follows from the configuration alone, so nothing is guessed from names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdiffsr_jax.weights import safetensors_file
from vdiffsr_jax.weights.lazy_array import LazyArray
from vdiffsr_jax.weights.storage import is_remote

SUFFIX = ".safetensors"
_TO_TORCH = {2: (1, 0), 4: (3, 2, 0, 1)}  # axes of a kernel, by its rank
_FROM_TORCH = {2: (1, 0), 4: (2, 3, 1, 0)}


def torch_names(paths: Iterable[str]) -> dict[str, str]:
    """{tensor's name: our path}, as in {"unet.fc1.weight": "unet/fc1/kernel"}.

    Raises: ValueError if two parameters would share a name.
    """
    result: dict[str, str] = {}
    for path in paths:
        *modules, leaf = path.split("/")
        name = ".".join([*modules, "weight" if leaf in ("kernel", "scale") else leaf])
        if name in result:
            raise ValueError(f"{result[name]} and {path} would both be called {name}")
        result[name] = path
    return result


def in_torch_layout(path: str, array: LazyArray, axes: Mapping[int, tuple[int, ...]] = _TO_TORCH) -> LazyArray:
    """The parameter as PyTorch lays it out; with `axes` of the way back, a tensor as we do."""
    order = axes.get(len(array.shape)) if path.endswith("/kernel") else None
    return array if order is None else array.laid_out(lambda x: x.transpose(order))


def file_of(item: epath.Path) -> epath.Path:
    """Where this format keeps the network that orbax would have in the folder `item`."""
    return item.parent / f"{item.name}{SUFFIX}"


def stored(item: epath.Path, want: Collection[str]) -> dict[str, LazyArray]:
    """{our path: array in our layout} of every tensor in the network's file; a name of no parameter stays as it is.

    Raises: ValueError if it lies in a bucket; WeightsFileError.
    """
    file = file_of(item)
    if is_remote(file):
        raise ValueError(f"{SUFFIX} files are read from disks only: copy the folder here first")
    names = torch_names(want)
    found = {names.get(name, name): array for name, array in safetensors_file.read(file).items()}
    return {path: in_torch_layout(path, array, _FROM_TORCH) for path, array in found.items()}


def read(item: epath.Path, leaves: Sequence[tuple[tuple[Any, ...], Any]]) -> list[np.ndarray]:
    """The arrays of these (keys, shape and dtype), cast as they say. Raises: WeightsFileError if they are damaged."""
    paths = ["/".join(str(key.key) for key in keys) for keys, _ in leaves]
    arrays = stored(item, paths)
    return [arrays[path].astype(struct.dtype).read() for path, (_, struct) in zip(paths, leaves, strict=True)]
