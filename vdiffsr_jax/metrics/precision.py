"""Compiled functions that compute in float64: what papers print was computed so, and flat sky shows the difference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, jitted, its arrays of 64 bits whatever the program's default is; keyword arguments are static.

    Its results lie on the host: outside of here JAX would make them 32 bits again.
    """

    @functools.wraps(function)
    def call(*args: Any, **static: Any) -> Any:
        with jax.enable_x64(True):
            result = _compiled(function, tuple(static.items()))(*args)
        return jax.tree.map(lambda x: x if isinstance(x, jax.core.Tracer) else np.asarray(x), result)

    return call


@functools.lru_cache(maxsize=64)
def _compiled(function: Callable[..., Any], static: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(functools.partial(function, **dict(static)))
