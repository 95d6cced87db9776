"""What float32 means: accelerators round float32 operands of products (TF32, bfloat16 passes) unless told not to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Matrix products and convolutions traced inside are float32 in full wherever their operands are, gradients too."""
    with jax.default_matmul_precision("highest"):
        yield


def products(dtype: DTypeLike) -> contextlib.AbstractContextManager[None]:
    """For a network that computes in `dtype`: float32 means it; in a bfloat16 one nobody asked for more digits."""
    return exact() if jnp.dtype(dtype) == jnp.float32 else contextlib.nullcontext()
