import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.filled import filled
from vdiffsr_jax.config import CSPAConfig
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.cspa import CSPA, CrossScale, Places, SameScale

LEVELS = (1, 2, 4)
KEYS = jax.random.split(jax.random.key(0), 3)
H = jax.random.normal(KEYS[0], (2, 4, 4, 32))
EMB = jax.random.normal(KEYS[1], (2, 12))


def pyramid(seed):
    keys = jax.random.split(jax.random.key(seed), len(LEVELS))
    return tuple(jax.random.normal(key, (2, p, p, 16)) for key, p in zip(keys, LEVELS, strict=True))


@functools.cache
def compiled(**switches):
    cfg = CSPAConfig(dim=32, head_dim=16, window_size=2, **switches)
    network = build(CSPA, 32, 4, 16, 12, LEVELS, cfg, num_groups=32)

    def forward(params, levels, emb=EMB):
        return network.apply(params, H, network.method(CSPA.prepare)(params, levels[2], levels), emb)

    return network, jax.jit(forward)


def test_fresh_unit_is_the_identity_and_its_output_matrix_learns_first():
    network, forward = compiled()
    params = network.init(KEYS[2])
    np.testing.assert_array_equal(forward(params, pyramid(1)), H)
    grads = jax.jit(jax.grad(lambda p: jnp.square(forward(p, pyramid(1))).mean()))(params)
    assert float(jnp.abs(grads["w_o"]["kernel"][:32]).max()) > 1e-5  # same scale
    assert float(jnp.abs(grads["w_o"]["kernel"][32:]).max()) > 1e-5  # cross scale
    assert not np.any(grads["w_q"]["kernel"])
    assert not np.any(params["cross"]["level_bias"]["kernel"])


def test_levels_choose_what_the_cross_scale_branch_reads():
    network, forward = compiled(same=False, levels=(0, 2))
    params, levels, other = filled(network.abstract), pyramid(1), pyramid(2)
    base = forward(params, levels)
    np.testing.assert_array_equal(forward(params, (levels[0], other[1], levels[2])), base)
    for changed in ((other[0], *levels[1:]), (*levels[:2], other[2])):
        assert float(jnp.abs(forward(params, changed) - base).max()) > 1e-4
    everything, forward_all = compiled(same=False)
    everything.check(params)  # the same parameters: a level can be switched off without training anew
    assert float(jnp.abs(forward_all(params, levels) - base).max()) > 1e-4


def test_level_bias_follows_the_step():
    network, forward = compiled(same=False)
    params, levels, other = filled(network.abstract), pyramid(1), pyramid(2)
    # Per head one bias for each level, times the embedding's first entry: +1 shuts all but the second level.
    kernel = np.zeros((12, 2 * len(LEVELS)), np.float32)
    kernel[0] = np.tile(np.float32([-1e4, 0, -1e4]), 2)
    params["cross"]["level_bias"] = {"kernel": kernel, "bias": np.zeros(2 * len(LEVELS), np.float32)}
    shut, even = (jnp.zeros((2, 12)).at[:, 0].set(value) for value in (1.0, 0.0))
    coarse_and_fine = (other[0], levels[1], other[2])
    np.testing.assert_array_equal(forward(params, coarse_and_fine, shut), forward(params, levels, shut))
    assert float(jnp.abs(forward(params, coarse_and_fine, even) - forward(params, levels, even)).max()) > 1e-4


def test_cross_scale_attends_to_the_token_at_the_same_place():
    # Same content everywhere, so only places tell tokens apart; queries and keys are all (1, 0, .., 0 | 1, 0, ..).
    network, _ = compiled(same=False, levels=(2,))
    params = filled(network.abstract)
    prior = jnp.concatenate([jnp.ones((1, 4, 4, 1)), jnp.eye(16).reshape(1, 4, 4, 16)[..., :15]], axis=-1)
    kv = np.zeros((16, 64), np.float32)
    kv[0, :32] = np.tile(np.float32([6.0] * 8 + [0.0] * 8), 2)  # keys: the same vector for every token
    kv[1:, 32:47] = np.eye(15)  # values of the first head: which token it was
    params["cross"]["kv"] = {"kernel": kv, "bias": np.zeros(64, np.float32)}
    params["cross"]["level_bias"] = jax.tree.map(np.zeros_like, params["cross"]["level_bias"])
    places = Places(heads=2, head_dim=16, finest=4)
    network_cross = build(CrossScale, 16, 12, LEVELS, CSPAConfig(dim=32, head_dim=16, levels=(2,)), places)
    q = jnp.tile(jnp.asarray([6.0] * 8 + [0.0] * 8), 2).reshape(1, 1, 1, 32) * jnp.ones((1, 4, 4, 1))
    levels = (jnp.zeros((1, 1, 1, 16)), jnp.zeros((1, 2, 2, 16)), prior)
    prepared = network_cross.method(CrossScale.prepare)(params["cross"], levels)
    read = network_cross.apply(params["cross"], places.rotate_map(q), prepared, EMB[:1]).reshape(16, 32)[:15, :15]
    np.testing.assert_array_equal(np.argmax(read, axis=-1), np.arange(15))


@pytest.mark.parametrize(("size", "cells", "window"), [(8, 4, 2), (6, 3, 2)])
def test_same_scale_reads_the_cells_of_its_window_by_hand(size: int, cells: int, window: int):
    """Windows of 2x2 cells under 4x4 queries each; three cells do not divide, so one window is the whole level."""
    places = Places(heads=1, head_dim=4, finest=cells)
    network = build(SameScale, size, cells, 5, CSPAConfig(dim=4, head_dim=4, window_size=window), places)
    params = filled(network.abstract)
    p, q = (jax.random.normal(KEYS[i], (1, n, n, d)) for i, n, d in ((0, cells, 5), (1, size, 4)))
    read = network.apply(params, places.rotate_map(q), network.method(SameScale.prepare)(params, p))

    side = window if cells % window == 0 else cells
    table = np.asarray(params["bias_table"]).reshape(2 * side - 1, 2 * side - 1)
    kv = np.asarray(p[0]) @ np.asarray(params["kv"]["kernel"]) + np.asarray(params["kv"]["bias"])[None, None]
    keys, values = np.asarray(places.rotate_map(kv[None, ..., :4])[0]), kv[..., 4:]
    queries = np.asarray(places.rotate_map(q)[0])
    for a, b in ((0, 0), (size - 1, 1), (size // 2, size - 1)):
        row, col = a * cells // size, b * cells // size
        area = (row // side, col // side)
        near = [(i, j) for i in range(cells) for j in range(cells) if (i // side, j // side) == area]
        logits = [queries[a, b] @ keys[i, j] / 2 + table[row - i + side - 1, col - j + side - 1] for i, j in near]
        weights = np.exp(logits) / np.exp(logits).sum()
        want = sum(w * values[i, j] for w, (i, j) in zip(weights, near, strict=True))
        np.testing.assert_allclose(read[0, a, b], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("switches", [{}, {"same": False, "levels": (0, 2)}, {"cross": False}])
def test_what_is_read_of_the_cells_makes_the_output(switches: dict[str, object]):
    """Values weighted by `read`, through W_o, are what the unit adds at the queries; windows are half of the level."""
    network, _ = compiled(**switches)
    params, levels = filled(network.abstract), pyramid(1)
    prepared = network.method(CSPA.prepare)(params, levels[2], levels)
    at = jnp.array([[0, 0], [3, 1], [2, 3]])
    reading = network.method(CSPA.read)(params, H, prepared, EMB, at)
    branches = []
    if reading.same is not None:
        values = prepared[0][1].reshape(2, -1, 2, 16)
        branches.append((reading.same.reshape(2, 3, 2, -1), values))
        np.testing.assert_array_equal(reading.same[:, 0, :, 2:], 0)  # other windows
    if reading.cross is not None:
        assert [level.shape for level in reading.cross] == [(2, 3, 2, p, p) for p in LEVELS]
        kept = [
            level.reshape(2, 3, 2, -1)
            for k, level in enumerate(reading.cross)
            if k in switches.get("levels", (0, 1, 2))
        ]
        branches.append((jnp.concatenate(kept, -1), prepared[1][1]))
    for weights, _ in branches:
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)
    read = jnp.concatenate([jnp.einsum("bnhm,bmhd->bnhd", *branch).reshape(2, 3, 32) for branch in branches], -1)
    want = network.apply(params, H, prepared, EMB) - H
    added = np.asarray(read @ params["w_o"]["kernel"]) + np.asarray(params["w_o"]["bias"])
    np.testing.assert_allclose(added, want[:, at[:, 0], at[:, 1]], rtol=0, atol=1e-5)


def test_a_stage_that_does_not_divide_into_its_levels_windows_is_refused():
    with pytest.raises(ValueError, match="7x7 does not divide into its level's 2x2 windows"):
        build(SameScale, 7, 4, 5, CSPAConfig(dim=4, head_dim=4, window_size=2), Places(1, 4, 4))


def test_a_unit_without_branches_is_refused():
    with pytest.raises(ValueError, match="no unit to build"):
        compiled(same=False, cross=False)
