"""The keys that networks are made from."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from vdiffsr_jax.models.build import build


class Layers(nnx.Module):
    """One layer by itself, then four at once, then one from a stream of its own: what a prior of one's own may do."""

    def __init__(self, *, rngs: nnx.Rngs):
        def layer(rngs):
            return nnx.Linear(2, 2, rngs=rngs)

        self.first, self.second = layer(rngs), layer(rngs)
        self.stack = nnx.split_rngs(splits=4)(nnx.vmap(layer, axis_size=4))(rngs)
        self.last = layer(nnx.Rngs(params=rngs.params.fork()))


def test_keys_are_those_of_flax_and_no_two_are_alike():
    made = build(Layers).init(jax.random.key(3))
    own = nnx.Rngs(params=jax.random.key(3))
    for name in ("first", "second"):
        np.testing.assert_array_equal(made[name]["kernel"], nnx.Linear(2, 2, rngs=own).kernel[...])
    kernels = np.concatenate([made["stack"]["kernel"], [made[name]["kernel"] for name in ("first", "second", "last")]])
    assert len(np.unique(kernels.reshape(7, 4), axis=0)) == 7
