"""Interpolation matrices against the definitions, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vdiffsr_jax.ops.resize import area, bicubic, bilinear, resize_matrix


@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "area"])
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 16), (3, 16), (16, 13), (16, 1), (5, 5), (64, 16)])
def test_rows_sum_to_one(mode: str, n_in: int, n_out: int):
    matrix = resize_matrix(n_in, n_out, mode)
    assert matrix.shape == (n_out, n_in)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "area"])
def test_same_size_is_the_identity(mode: str):
    np.testing.assert_allclose(resize_matrix(7, 7, mode), np.eye(7), atol=1e-7)


def test_bicubic_weights_are_keys_with_a_of_minus_three_quarters():
    # Output pixel 2 of x2 lies at 0.75 between input pixels 0 and 1; pixel -1 repeats pixel 0.
    a, t = -0.75, 0.75
    near = [(a + 2) * s**3 - (a + 3) * s**2 + 1 for s in (t, 1 - t)]
    far = [a * s**3 - 5 * a * s**2 + 8 * a * s - 4 * a for s in (1 + t, 2 - t)]
    np.testing.assert_allclose(resize_matrix(4, 8, "bicubic")[2], [near[0] + far[0], near[1], far[1], 0], atol=1e-6)


def test_bilinear_and_area_by_hand():
    np.testing.assert_allclose(resize_matrix(2, 4, "bilinear"), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(resize_matrix(3, 2, "area"), [[0.5, 0.5, 0], [0, 0.5, 0.5]])
    bins = resize_matrix(16, 13, "area") > 0
    assert [(np.flatnonzero(b)[0], np.flatnonzero(b)[-1]) for b in bins[:3]] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(("resize", "mode"), [(bicubic, "bicubic"), (bilinear, "bilinear"), (area, "area")])
def test_maps_are_resized_along_rows_and_columns(resize, mode: str):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    rows, cols = resize_matrix(5, 4, mode), resize_matrix(7, 9, mode)
    np.testing.assert_allclose(resize(x, (4, 9)), np.einsum("Hh,Ww,bhwc->bHWc", rows, cols, x), atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match="unknown resize mode 'lanczos'; known: bicubic, bilinear, area"):
        resize_matrix(4, 8, "lanczos")
    with pytest.raises(ValueError, match="cannot resize 4 pixels to 0"):
        resize_matrix(4, 0, "area")
