import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops.shuffle import channels_to_pixels, pixels_to_channels


def test_a_patch_becomes_the_channels_of_its_place():
    image = jnp.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    channels = pixels_to_channels(image, 2)
    assert channels.shape == (1, 2, 3, 12)
    np.testing.assert_array_equal(channels[0, 1, 2], image[0, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(channels_to_pixels(channels, 2), image)


def test_patches_must_divide():
    with pytest.raises(ValueError, match="patches of 4"):
        pixels_to_channels(jnp.zeros((1, 8, 6, 3)), 4)
