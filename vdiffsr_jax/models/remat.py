"""What the backward pass keeps of a block and what it computes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")
POLICIES = ("none", "full", "dots")


def remat_block(block: Callable[P, R], policy: str) -> Callable[P, R]:
    """`block`, a function of arrays, under one of POLICIES.

    none: everything is kept. full: only the inputs. dots: products with weights are kept too, which costs memory in
    transformer blocks and saves most of their second forward pass; convolutions are computed again.
    """
    if policy == "none":
        return block
    saveable = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if policy == "dots" else None
    return jax.checkpoint(block, policy=saveable)
