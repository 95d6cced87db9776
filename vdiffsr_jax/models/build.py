"""From a module class and its config to pure functions over a plain dict of arrays (the one place that splits NNX)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import PRNGKeyArray

from vdiffsr_jax.ops import precision

Params = dict[Any, Any]
M = TypeVar("M", bound=Callable[..., Any], covariant=True)  # the module's class
P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Network(Generic[M]):
    """A network without its numbers.

    `abstract`: the parameter tree as ShapeDtypeStructs. `rounded`: the dtype of the parameters that layers round before
    every use. `dtype`: what the module computes in, see `ops.precision`.
    """

    graphdef: nnx.GraphDef[Any]
    abstract: Params
    rounded: Mapping[str, jnp.dtype]
    _init: Callable[[PRNGKeyArray], Params]
    dtype: DTypeLike = jnp.float32

    def init(self, key: PRNGKeyArray) -> Params:
        """Fresh parameters, float32."""
        return self._init(key)

    def apply(self: Network[Callable[P, R]], params: Params, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the module computes with `params`, which must have the shapes of `abstract` (see `check`)."""
        with precision.products(self.dtype):
            result: R = nnx.merge(self.graphdef, params)(*args, **kwargs)
        return result

    def method(self, of: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[Params, P], R]:
        """Another method of the module as a function like `apply`: `network.method(VQGAN.encode)(params, image)`.

        `of` may be a parent's: the method of its name is called.
        """

        def run(params: Params, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with precision.products(self.dtype):
                result: R = getattr(nnx.merge(self.graphdef, params), of.__name__)(*args, **kwargs)
            return result

        return run

    def as_computed(self, params: Params) -> Params:
        """The same numbers to `apply`, with that done once which layers do in every call: rounding to their dtype."""
        flat = flatten(params)
        return unflatten({name: x.astype(self.rounded.get(name, x.dtype)) for name, x in flat.items()}, params)

    def check(self, params: Params, what: str = "parameters") -> None:
        """Raise ValueError listing every missing, unexpected or misshapen parameter (merge accepts them silently)."""
        self._check(flatten(params), what)

    def pick(self, given: Mapping[str, Any], what: str) -> Params:
        """Its parameters out of {name: array}, which may hold more. Raises: ValueError as `check` does."""
        have = {name: given[name] for name in flatten(self.abstract) if name in given}
        self._check(have, what)
        return unflatten(have, self.abstract)

    def _check(self, have: Mapping[str, Any], what: str) -> None:
        if problems := misfits(have, flatten(self.abstract)):
            raise ValueError(f"{what} do not fit the configuration:\n  " + "\n  ".join(problems))


def misfits(have: Mapping[str, Any], want: Mapping[str, Any]) -> list[str]:
    """What is missing, unexpected or of another shape among arrays by name, a line each."""
    problems = [f"missing {name}" for name in want.keys() - have.keys()]
    problems += [f"unexpected {name}" for name in have.keys() - want.keys()]
    problems += [
        f"{name} has shape {tuple(have[name].shape)}, needs {tuple(want[name].shape)}"
        for name in want.keys() & have.keys()
        if tuple(have[name].shape) != tuple(want[name].shape)
    ]
    return sorted(problems)


def build(make: Callable[..., M], *args: Any, **kwargs: Any) -> Network[M]:
    """`build(VQGAN, cfg, dtype=jnp.bfloat16)`: no memory is used until `init`."""
    dtype = kwargs.get("dtype", jnp.float32)
    make = functools.partial(make, *args, **kwargs)
    skeleton = nnx.eval_shape(lambda: make(rngs=_rngs(jax.random.key(0))))
    rounded = {
        "/".join(map(str, (*path, name))): jnp.dtype(layer.dtype)
        for path, layer in nnx.iter_graph(skeleton)
        for name in getattr(layer, "ROUNDED", ())
    }
    graphdef, abstract = nnx.split(skeleton, nnx.Param)

    @jax.jit
    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.split(make(rngs=_rngs(key)), nnx.Param)[1])

    return Network(graphdef, nnx.to_pure_dict(abstract), rounded, init, dtype)


class _Stream(nnx.RngStream):
    """Counts its keys in Python: flax asks its own counter, an array, for its sharding at every key.

    Asking a traced one took half of `build`.
    """

    def __init__(self, key: PRNGKeyArray, *, tag: str):
        super().__init__(key, tag=tag)
        self.given = 0

    def __call__(self) -> PRNGKeyArray:
        key = jax.random.fold_in(self.key[...], self.given)
        self.given += 1
        return key


def _rngs(key: PRNGKeyArray) -> nnx.Rngs:
    rngs = nnx.Rngs(params=key)
    rngs.params = _Stream(key, tag="params")  # type: ignore[attr-defined]
    return rngs


def flatten(params: Params) -> dict[str, Any]:
    """{"down/0/kernel": array}: the names that sharding, conversion and messages use."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {"/".join(str(getattr(k, "key", k)) for k in path): leaf for path, leaf in leaves}


def unflatten(flat: dict[str, Any], like: Params) -> Params:
    """Inverse of `flatten`, with the key types (list positions are ints) of `like`."""
    params: Params = jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in flatten(like)])
    return params


def cast(params: Params, dtype: DTypeLike) -> Params:
    """Every floating array in `dtype`: frozen networks may live in bfloat16."""
    rounded: Params = jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, params)
    return rounded
