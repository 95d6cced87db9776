"""Tiles cover the image, their weights sum to one."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from vdiffsr_jax.sampling import tiling

EXAMPLES = json.loads((pathlib.Path(__file__).parents[1] / "golden/end_to_end/config.json").read_text())


@pytest.mark.parametrize("case", EXAMPLES["tile_starts_examples"], ids=lambda c: f"{c['length']}-{c['stride']}")
def test_tile_starts_follow_the_original(case):
    assert list(tiling.tile_starts(case["length"], case["tile"], case["stride"])) == case["starts"]


@pytest.mark.parametrize("stride", [0, 65])
def test_a_stride_that_leaves_gaps_is_refused(stride):
    with pytest.raises(ValueError, match="uncovered"):
        tiling.tile_starts(100, 64, stride)


@pytest.mark.parametrize("blend", tiling.BLENDS)
@pytest.mark.parametrize(("length", "stride"), [(300, 56), (65, 56), (64, 56), (200, 64), (150, 20), (129, 1)])
def test_weights_sum_to_one_at_every_pixel(blend, length, stride):
    starts = tiling.tile_starts(length, 64, stride)
    weights = tiling.blend_weights(starts, 64, blend)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + 64] += weight
    np.testing.assert_allclose(total, 1, atol=1e-12)
    assert weights.min() >= 0


def test_cosine_ramps_are_as_wide_as_the_overlap():
    left, right = tiling.blend_weights((0, 56), 64, "cosine")
    assert np.all(left[:56] == 1)
    assert np.all(right[8:] == 1)
    np.testing.assert_allclose(right[:8], np.sin(np.pi * (np.arange(8) + 0.5) / 16) ** 2, atol=1e-12)
    np.testing.assert_allclose(left[56:], right[:8][::-1], atol=1e-12)


@pytest.mark.parametrize("blend", tiling.BLENDS)
@pytest.mark.parametrize(("height", "width", "stride"), [(40, 90, 24), (16, 16, 32), (100, 33, 10), (75, 75, 32)])
def test_cut_and_blend_is_the_identity(blend, height, width, stride):
    grid = tiling.Grid(height, width, 32, stride)
    image = np.random.default_rng(0).uniform(-1, 1, (height, width, 3)).astype(np.float32)
    blender, out, covered = tiling.Blender(grid, 2, blend=blend), np.zeros((2 * height, 2 * width, 3)), []
    for index in range(grid.count):
        assert not blender.done
        finished = blender.add(tiling.cut(image, grid.position(index), 32).repeat(2, 0).repeat(2, 1))
        if finished is not None:
            top, rows = finished
            covered.append((top, top + len(rows)))
            out[top : top + len(rows)] = rows
    assert blender.done
    assert [a for a, _ in covered] == [0, *(b for _, b in covered[:-1])]
    assert covered[-1][1] == 2 * height
    np.testing.assert_allclose(out, image.repeat(2, 0).repeat(2, 1), atol=1e-6)


def test_uniform_blend_is_the_plain_average():
    grid = tiling.Grid(32, 48, 32, 16)
    blender = tiling.Blender(grid, 1, blend="uniform")
    assert blender.add(np.full((32, 32, 3), 1.0)) is None
    _, rows = blender.add(np.full((32, 32, 3), 2.0))
    np.testing.assert_allclose(rows[0, :, 0], [1.0] * 16 + [1.5] * 16 + [2.0] * 16)


def test_a_small_image_is_reflected_again_and_again():
    image = np.arange(3.0)[None, :, None].repeat(3, 0)
    tile = tiling.cut(image, (0, 0), 8)
    assert tile[0, :, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert tiling.cut(np.full((1, 1, 3), 5.0), (0, 0), 8).tolist() == np.full((8, 8, 3), 5.0).tolist()


def test_the_same_place_of_another_image():
    grid = tiling.Grid(40, 72, 16, 8)  # 4 rows, 8 columns
    assert [tiling.same_place(grid, i, 40, 72) for i in range(grid.count)] == [grid.position(i) for i in range(32)]
    assert tiling.same_place(grid, 0, 100, 20) == (0, 0)
    assert tiling.same_place(grid, 31, 100, 20) == (84, 4), "edge on edge"
    assert tiling.same_place(grid, 9, 64, 128) == (16, 16), "a third of the way down, a seventh across"
    assert tiling.same_place(grid, 31, 9, 16) == (0, 0), "an image that one tile covers"
    assert tiling.same_place(tiling.Grid(16, 7, 16, 8), 0, 26, 33) == (5, 8), "the middle, for the only tile"
