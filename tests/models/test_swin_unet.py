import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.small_unet import SMALL_UNET
from tests.parity_kinds import swin_unet as parity
from vdiffsr_jax.config import SwinUNetConfig
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.swin_unet import SwinUNet, swin_places

GOLDEN = Path(__file__).parents[1] / "golden" / "swin_unet"


@pytest.fixture(scope="module")
def io():
    with np.load(GOLDEN / "io.npz") as file:
        return dict(file)


def test_every_block_matches_the_original(io):
    # Three cases: maps larger than image_size, not square, and exactly image_size.
    check = json.loads((GOLDEN / "check.json").read_text())["arrays"]
    got = parity.outputs(GOLDEN, io)
    assert set(got) == {name for name in io if not name.endswith(("_x", "_t", "_lq"))}
    for name, array in got.items():
        assert array.shape == io[name].shape
        deviation = np.abs(array - io[name]).max() / check[name]["std"]
        # measured: 0.13 of the tolerance at worst (7.7e-6 to 1.6e-4 over the array's std)
        assert deviation < check[name]["tolerance_over_std"], name


def test_fuse_is_called_after_every_swin_layer_in_forward_order():
    network = build(SwinUNet, SMALL_UNET)
    x = jnp.zeros((1, 8, 8, 3))
    seen = []

    def fuse(i, h, emb):
        seen.append((i, h.shape[-1], h.shape[1]))
        assert emb.shape == (1, 4 * SMALL_UNET.model_channels)
        return h

    jax.eval_shape(lambda p: network.apply(p, x, jnp.array([0]), x, fuse), network.abstract)
    assert seen == [(i, *place) for i, place in enumerate(swin_places(SMALL_UNET))]


def test_published_places():
    down = ((160, 64), (320, 32), (320, 16), (640, 8))
    assert swin_places(SwinUNetConfig()) == (*down, (640, 8), *reversed(down))


def test_refusals_say_what_to_do():
    network = build(SwinUNet, SMALL_UNET)

    def call(size, lr_size):
        x, lr = jnp.zeros((1, size, size, 3)), jnp.zeros((1, lr_size, lr_size, 3))
        return jax.eval_shape(network.apply, network.abstract, x, jnp.array([0]), lr)

    with pytest.raises(ValueError, match="must divide by 2; pad"):
        call(7, 7)
    with pytest.raises(ValueError, match="does not divide into windows of 4x4; pad"):
        call(6, 6)
    with pytest.raises(ValueError, match="batch and size of the latent"):
        call(8, 16)
    with pytest.raises(ValueError, match="at least one block per level"):
        build(SwinUNet, SwinUNetConfig(num_res_blocks=(2, 0, 2, 2)))
