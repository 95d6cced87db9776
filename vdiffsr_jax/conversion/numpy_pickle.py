"""A pickle of numpy arrays in nested dictionaries, as Flax packages ship their weights, read without running it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from vdiffsr_jax.conversion import nested, pickle_reader
from vdiffsr_jax.conversion.pickle_reader import Global, PickleError
from vdiffsr_jax.weights.lazy_array import LazyArray


@dataclasses.dataclass
class _Dtype:
    value: np.dtype


@dataclasses.dataclass
class _Array:
    """An array whose numbers come with the BUILD operation that follows; the pickle may refer to it before."""

    value: np.ndarray | None = None


def read(data: bytes) -> dict[str, LazyArray]:
    """{"outer/inner/name": array} of a pickle that holds numbers of numpy in dictionaries and nothing else.

    Raises: PickleError if it holds anything else, or is damaged.
    """
    content = pickle_reader.load(data, _TABLE, persistent=_refuse_identity, attributes=_build)
    if not isinstance(content, dict):
        raise PickleError(f"the pickle holds a {type(content).__name__}, not a dictionary of arrays")
    found = {}
    for keys, value in nested.leaves(content):
        name = "/".join(map(str, keys))
        if not isinstance(value, _Array) or value.value is None:
            raise PickleError(f"{name} is a {type(value).__name__.strip('_')}, not an array of numbers")
        if name in found:
            raise PickleError(f"it holds {name} twice")
        found[name] = LazyArray.of(value.value)
    return found


def _reconstruct(arguments: tuple[Any, ...]) -> _Array:
    """An empty array of numpy's own class; its shape and numbers follow."""
    if len(arguments) != 3 or not (isinstance(arguments[0], Global) and arguments[0].name == "numpy.ndarray"):
        raise PickleError("the pickle holds an array of a foreign class: refused")
    return _Array()


def _dtype(arguments: tuple[Any, ...]) -> _Dtype:
    code = arguments[0] if arguments else None
    if code not in ("f2", "f4", "f8"):
        raise PickleError(f"an array of type {code!r} holds no weights: refused")
    return _Dtype(np.dtype(code))


def _build(target: Any, state: Any) -> Any:
    if isinstance(target, _Dtype) and isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
        target.value = target.value.newbyteorder(state[1])
    elif isinstance(target, _Array):
        target.value = _array(state)
    else:
        raise PickleError(f"the pickle sets attributes of a {type(target).__name__}: refused")
    return target


def _array(state: Any) -> np.ndarray:
    """From numpy's (version, shape, dtype, Fortran order, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise PickleError("an array's description is damaged")
    _, shape, dtype, fortran, raw = state
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise PickleError("an array's shape is damaged")
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
        raise PickleError("an array's numbers are damaged")
    if len(raw) != math.prod(shape) * dtype.value.itemsize:
        raise PickleError(f"an array of shape {shape} has {len(raw)} bytes; it is truncated or forged")
    native = np.frombuffer(raw, dtype.value).astype(dtype.value.newbyteorder("="), copy=False)
    return native.reshape(shape, order="F" if fortran else "C")


def _refuse_identity(_: Any) -> Any:
    raise PickleError("the pickle refers to something outside itself: refused")


_TABLE = {
    "numpy.core.multiarray._reconstruct": Global("numpy.core.multiarray._reconstruct", _reconstruct),
    "numpy._core.multiarray._reconstruct": Global("numpy._core.multiarray._reconstruct", _reconstruct),
    "numpy.ndarray": Global("numpy.ndarray"),
    "numpy.dtype": Global("numpy.dtype", _dtype),
}
