import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.filled import filled
from vdiffsr_jax.config import CSPAConfig
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.cspa import CSPA, CrossScale, SameScale
from vdiffsr_jax.ops.resize import bilinear

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
        return network.apply(params, H, network.apply(params, levels[2], levels, method="prepare"), emb)

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
    network_cross = build(CrossScale, 4, 16, 12, LEVELS, CSPAConfig(dim=32, head_dim=16, levels=(2,)))
    q = jnp.tile(jnp.asarray([6.0] * 8 + [0.0] * 8), 2).reshape(1, 1, 1, 32) * jnp.ones((1, 4, 4, 1))
    levels = (jnp.zeros((1, 1, 1, 16)), jnp.zeros((1, 2, 2, 16)), prior)
    prepared = network_cross.apply(params["cross"], levels, method="prepare")
    read = network_cross.apply(params["cross"], q, prepared, EMB[:1]).reshape(16, 32)[:15, :15]
    np.testing.assert_array_equal(np.argmax(read, axis=-1), np.arange(15))


def test_same_scale_projects_then_resizes_which_is_the_same():
    network = build(SameScale, 4, 16, CSPAConfig(dim=32, head_dim=16, window_size=2))
    params = filled(network.abstract)
    p = pyramid(1)[1]
    k, v = network.apply(params, p, method="prepare")
    want = bilinear(p, (4, 4)) @ params["kv"]["kernel"] + params["kv"]["bias"].reshape(1, 1, 1, -1)
    np.testing.assert_allclose(jnp.concatenate([k, v], axis=-1), want, rtol=0, atol=1e-5)


def test_a_unit_without_branches_is_refused():
    with pytest.raises(ValueError, match="no unit to build"):
        compiled(same=False, cross=False)
