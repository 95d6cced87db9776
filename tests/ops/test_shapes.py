"""The shapes and dtypes that signatures of `ops` name are what their functions take and return."""

from __future__ import annotations

import importlib
import sys

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError, install_import_hook

ROOM = "vdiffsr_jax.ops"


@pytest.fixture
def checked():
    """Modules of `ops` by name, imported apart from everybody's, their signatures checked at every call."""
    shared = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(f"{ROOM}.")}
    with install_import_hook(ROOM, "beartype.beartype"):
        yield lambda name: importlib.import_module(f"{ROOM}.{name}")
    for name in [name for name in sys.modules if name.startswith(f"{ROOM}.")]:
        del sys.modules[name]
    sys.modules.update(shared)


def test_named_axes_agree(checked):
    x = jnp.ones((2, 8, 8, 6))
    y = checked("conv").upsample2x_conv2d(x, jnp.ones((3, 3, 6, 4)), jnp.zeros(4))
    assert y.shape == (2, 16, 16, 4)
    assert checked("shuffle").pixels_to_channels(x, 2).shape == (2, 4, 4, 24)
    assert checked("resize").bicubic(x, (4, 3)).shape == (2, 4, 3, 6)
    window = checked("window")
    bias = window.relative_position_bias(jnp.ones((49, 3)), 4)
    assert window.window_attention(x, x, x, bias, window=4, mask=window.shift_mask(8, 8, 4, 2)).shape == x.shape


def test_a_wrong_shape_is_refused(checked):
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 4))
    with pytest.raises(TypeCheckError, match="bias"):
        checked("conv").upsample2x_conv2d(x, kernel, jnp.zeros(5))
    q = jnp.ones((2, 5, 3, 4))
    with pytest.raises(TypeCheckError, match="'v'"):
        checked("attention").attention(q, q, q[:, :4])
    with pytest.raises(TypeCheckError, match="indices"):
        checked("quantize").codebook_usage(jnp.ones(3), 4)
