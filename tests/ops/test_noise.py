"""One field over a photo: every tile draws its own part of it."""

from __future__ import annotations

import jax
import numpy as np

from vdiffsr_jax.ops.noise import field_key, noise_at


def draw(seed, *origins, fields=1, side=32, channels=3):
    places = np.array(origins, np.int32)
    return np.asarray(noise_at(field_key(seed), places, fields=fields, side=side, channels=channels))


def test_a_tile_is_a_part_of_the_field():
    whole = draw(7, (0, 0), fields=2, side=100)[0]
    assert whole.shape == (2, 100, 100, 3)
    places = [(0, 0), (0, 68), (50, 13), (68, 68)]
    for (top, left), tile in zip(places, draw(7, *places, fields=2), strict=True):
        np.testing.assert_array_equal(tile, whole[:, top : top + 32, left : left + 32])
    assert np.abs(whole[0] - whole[1]).max() > 1


def test_devices_and_loops_draw_the_same():
    places = np.array([(0, 0), (5, 68), (50, 13), (68, 68)], np.int32)

    def one(place):
        return noise_at(field_key(3), place[None], fields=2, side=16, channels=3)[0]

    np.testing.assert_array_equal(jax.jit(lambda p: jax.lax.map(one, p))(places), draw(3, *places, fields=2, side=16))


def test_every_seed_has_its_own_field():
    fields = [draw(seed, (0, 0), side=8) for seed in (0, 1, -1, 2**32, 2**63)]
    for i, a in enumerate(fields):
        assert all(np.abs(a - b).max() > 1 for b in fields[:i])


def test_standard_normal_and_uncorrelated():
    field = draw(0, (0, 0), fields=2, side=256)[0].astype(np.float64)
    n = field.size
    assert abs(field.mean()) < 4 / np.sqrt(n)
    assert abs((field**2).mean() - 1) < 4 * np.sqrt(2 / n)
    assert abs((field**4).mean() - 3) < 4 * np.sqrt(96 / n)
    pairs = [(field[0], field[1]), (field[:, 1:], field[:, :-1]), (field[:, :, 1:], field[:, :, :-1])]
    for a, b in [*pairs, (field[..., 1:], field[..., :-1])]:
        assert abs((a * b).mean()) < 4 / np.sqrt(a.size)
