from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.data.conftest import noise
from vdiffsr_jax.data import filters, kernels
from vdiffsr_jax.data.config import RESIZES
from vdiffsr_jax.ops.resize import resize_matrix


def photo(height: int, width: int) -> np.ndarray:
    return noise(0, height, width).astype(np.float32) / 255


@pytest.mark.parametrize("size", [1, 3, 21])
def test_blur_is_a_mirrored_convolution(size: int):
    image = photo(33, 40)
    kernel = np.random.default_rng(1).random((size, size)).astype(np.float32)
    expected = np.stack([ndimage.convolve(image[..., c], kernel, mode="mirror") for c in range(3)], axis=-1)
    np.testing.assert_allclose(filters.blur(image, kernel), expected, rtol=1e-5, atol=1e-5 * kernel.sum())


def test_blur_keeps_a_flat_image():
    flat = np.full((24, 30, 3), 0.3, np.float32)
    np.testing.assert_allclose(filters.blur(flat, kernels.sinc(13, 2.0)), flat, atol=1e-6)


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("sizes", [(64, 16), (50, 13), (16, 23), (7, 7)])
def test_plain_modes_are_those_of_the_networks(mode: str, sizes: tuple[int, int]):
    np.testing.assert_allclose(filters.weights(*sizes, mode).toarray(), resize_matrix(*sizes, mode), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "filter_"),
    [("antialiased_bilinear", Image.Resampling.BILINEAR), ("antialiased_bicubic", Image.Resampling.BICUBIC)],
)
@pytest.mark.parametrize("size", [(16, 16), (17, 25), (90, 80)])
def test_antialiased_modes_are_those_of_photo_programs(mode: str, filter_: int, size: tuple[int, int]):
    image = photo(64, 60)
    planes = [Image.fromarray(image[..., c]).resize((size[1], size[0]), filter_) for c in range(3)]
    expected = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    np.testing.assert_allclose(filters.resize(image, *size, mode), expected, atol=2e-6)


@pytest.mark.parametrize("mode", RESIZES)
def test_weights_sum_to_one(mode: str):
    for n_in, n_out in ((256, 64), (256, 38), (40, 61), (5, 1)):
        np.testing.assert_allclose(filters.weights(n_in, n_out, mode).sum(1), 1, atol=1e-5)


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="unknown resize mode 'lanczos'; known: area, bilinear"):
        filters.weights(8, 4, "lanczos")
