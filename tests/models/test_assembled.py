"""The whole model: what its configuration and options say reaches its networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.models.test_vdiffsr import CFG
from vdiffsr_jax.models.assembled import assemble


@pytest.mark.parametrize(("remat", "again"), [("none", False), ("full", True), ("dots", True)])
def test_remat_reaches_denoiser_and_prior(remat: str, again: bool):
    model = assemble(CFG, remat=remat)
    items = {name: network.abstract for name, network in model.networks.items()}
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    window = jax.eval_shape(model.enlarge, lr)
    pyramid = jax.eval_shape(model.pyramid, items, window)
    prior = jax.eval_shape(model.read_prior, items, pyramid)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    for program in (
        jax.make_jaxpr(model.pyramid)(items, window),
        jax.make_jaxpr(model.denoise)(items, lr, t, lr, prior),
    ):
        assert ("remat" in str(program)) == again
