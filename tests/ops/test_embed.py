import math

import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops.embed import grid_centres, rotary_angles, rotate, timestep_embedding


def test_timestep_embedding_puts_cosines_first():
    e = np.asarray(timestep_embedding(jnp.array([0, 3]), 4))
    w = [1.0, math.exp(-math.log(10000) / 2)]
    want = [[1, 1, 0, 0], [math.cos(3 * w[0]), math.cos(3 * w[1]), math.sin(3 * w[0]), math.sin(3 * w[1])]]
    np.testing.assert_allclose(e, want, atol=1e-6)


def test_odd_widths_are_refused():
    with pytest.raises(ValueError, match="even width"):
        timestep_embedding(jnp.array([0]), 5)
    with pytest.raises(ValueError, match="divides by 4"):
        rotary_angles(grid_centres(2), 6, finest=2)


def test_grid_centres_by_hand():
    np.testing.assert_allclose(grid_centres(2), [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])


def test_rotation_depends_only_on_relative_places():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 1, 1, 8)).astype(np.float32)

    def product(a, b):
        turned = [
            np.asarray(rotate(jnp.asarray(x), rotary_angles(np.array([p]), 8, finest=16))) for x, p in ((q, a), (k, b))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product((0.1, 0.2), (0.4, 0.3)) == pytest.approx(product((0.5, 0.6), (0.8, 0.7)), abs=1e-5)
    assert product((0.1, 0.2), (0.4, 0.3)) != pytest.approx(product((0.1, 0.2), (0.3, 0.4)), abs=1e-3)


def test_the_same_place_on_two_grids_is_turned_alike():
    coarse, fine = grid_centres(1), grid_centres(3)
    np.testing.assert_allclose(rotary_angles(coarse, 8, finest=3)[0], rotary_angles(fine, 8, finest=3)[4], rtol=1e-6)
