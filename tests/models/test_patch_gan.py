from __future__ import annotations

import jax
import numpy as np
import pytest

from tests.models.filled import filled
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.patch_gan import FeatureGAN, PatchGAN

NETWORK = build(PatchGAN, channels=32, layers=2)


def test_one_score_per_patch():
    params = filled(NETWORK.abstract)
    kernels = [layer["kernel"].shape for layer in (*params["convs"].values(), params["head"])]
    assert kernels == [(4, 4, 3, 32), (4, 4, 32, 64), (4, 4, 64, 128), (4, 4, 128, 1)]
    scores = jax.eval_shape(NETWORK.apply, params, np.zeros((1, 32, 48, 3), np.float32))
    assert scores.shape == (1, 6, 10, 1)  # 32x48 -> 16x24 -> 8x12, then one less for each 4x4 kernel of stride 1


def test_a_score_does_not_depend_on_its_batch():
    params = filled(NETWORK.abstract)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)
    apply = jax.jit(NETWORK.apply)
    np.testing.assert_allclose(apply(params, x)[1:2], apply(params, x[1:2]), atol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="a multiple of 32 channels"):
        build(PatchGAN, channels=20)
    with pytest.raises(ValueError, match="needs 12 pixels a side, not 8x16"):
        NETWORK.apply(filled(NETWORK.abstract), np.zeros((1, 8, 16, 3), np.float32))


def test_a_discriminator_on_frozen_maps_scores_every_place_of_each():
    network = build(FeatureGAN, (3, 5), channels=4)
    params = filled(network.abstract)
    maps = [np.ones((2, 4, 4, 3), np.float32), np.ones((2, 2, 2, 5), np.float32)]
    first, second, scores = network.method(FeatureGAN.layers)(params, maps)
    assert (first.shape, second.shape, scores.shape) == ((2, 4, 4, 4), (2, 2, 2, 4), (2, 20))
    np.testing.assert_array_equal(network.apply(params, maps), scores)
