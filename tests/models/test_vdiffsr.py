import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.filled import filled
from tests.models.small_unet import SMALL_UNET
from vdiffsr_jax.config import (
    CoGUConfig,
    ConfigError,
    CSPAConfig,
    PriorConfig,
    VARConfig,
    VARTokenizerConfig,
    VDiffSRConfig,
)
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.cspa import aligned_level
from vdiffsr_jax.models.swin_unet import SwinUNet
from vdiffsr_jax.models.vdiffsr import VDiffSR, from_unet

LEVELS = (1, 2, 4)
CFG = VDiffSRConfig(
    denoiser=SMALL_UNET,
    prior=PriorConfig(
        tokenizer=VARTokenizerConfig(ch=32, ch_mult=(1, 1, 1, 1), z_channels=8, vocab_size=16, patch_nums=LEVELS),
        var=VARConfig(depth=4, width=32, num_heads=2, patch_nums=LEVELS, vocab_size=16, code_dim=8),
        dim=16,
    ),
    cogu=CoGUConfig(max_dim=32),
    cspa=CSPAConfig(dim=32, head_dim=16, window_size=4),
)
KEY = jax.random.key(0)
X, LR = jax.random.normal(KEY, (2, 2, 8, 8, 3))
T = jnp.array([14, 3])


def pyramid(seed):
    keys = jax.random.split(jax.random.key(seed), len(LEVELS))
    return tuple(jax.random.normal(key, (2, p, p, 16)) for key, p in zip(keys, LEVELS, strict=True))


@functools.cache
def compiled(cfg=CFG, dtype=jnp.float32):
    """(network, forward): forward(params, pyramid, t), jitted once for all tests."""
    network = build(VDiffSR, cfg, dtype=dtype)

    def forward(params, levels, t=T):
        return network.apply(params, X, t, LR, network.method(VDiffSR.encode_prior)(params, levels))

    return network, jax.jit(forward)


@pytest.fixture(scope="module")
def params():
    return filled(build(VDiffSR, CFG).abstract)


def test_fresh_units_leave_the_unet_as_it_is_for_any_prior(params):
    want = jax.jit(build(SwinUNet, CFG.denoiser).apply)(params["unet"], X, T, LR)
    fresh = from_unet(params["unet"], CFG, KEY)
    for seed in (1, 2):
        got = compiled()[1](fresh, pyramid(seed))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)  # measured: 0


def test_trained_units_listen_to_the_prior(params):
    one, two = (compiled()[1](params, pyramid(seed)) for seed in (1, 2))
    assert float(jnp.abs(one - two).max()) > 1e-3


def test_a_cache_serves_every_step_as_recomputation_does(params):
    network, forward = compiled()
    cache = jax.jit(network.method(VDiffSR.encode_prior))(params, pyramid(1))
    step = jax.jit(lambda p, t, cache: network.apply(p, X, t, LR, cache))
    for t in (jnp.array([0, 7]), jnp.array([14, 14])):
        np.testing.assert_allclose(step(params, t, cache), forward(params, pyramid(1), t), rtol=0, atol=1e-5)


def test_bfloat16_stays_close_to_float32(params):
    want, got = compiled()[1](params, pyramid(1)), compiled(CFG, jnp.bfloat16)[1](params, pyramid(1))
    assert got.dtype == jnp.float32
    assert 0 < float(jnp.abs(got - want).max()) < 0.1 * float(jnp.abs(want).max())


def test_gradients_reach_every_matrix_and_remat_does_not_change_them():
    shallow = dataclasses.replace(CFG.denoiser, channel_mult=(1,), num_res_blocks=(1,), attention_resolutions=())
    cfg = dataclasses.replace(CFG, denoiser=shallow)

    def gradient(remat):
        network = build(VDiffSR, cfg, remat=remat)

        def loss(p):
            z_0 = network.apply(p, X, T, LR, network.method(VDiffSR.encode_prior)(p, pyramid(1)))
            return jnp.square(z_0).mean()

        # Compile time is most of this test; the numbers do not depend on how hard the compiler tries.
        fast = {"xla_backend_optimization_level": 0}
        return flatten(jax.jit(jax.grad(loss), compiler_options=fast)(filled(network.abstract)))

    plain, remat = gradient("none"), gradient("full")
    for name, g in plain.items():
        assert name.endswith("bias") or float(jnp.abs(g).max()) > 1e-7, name
        np.testing.assert_allclose(remat[name], g, rtol=1e-3, atol=1e-5, err_msg=name)


def test_switches_leave_parts_out():
    def units(**changes):
        return build(VDiffSR, dataclasses.replace(CFG, **changes)).abstract

    assert set(units(prior=None)) == {"unet"}
    assert set(units(cogu=CoGUConfig(enabled=False))) == {"unet", "cspa"}
    neither = dataclasses.replace(CFG.cspa, same=False, cross=False)
    assert set(units(cspa=neither)) == {"unet", "cogu"}
    one = units(cspa=dataclasses.replace(CFG.cspa, cross=False))["cspa"][0]
    assert "cross" not in one
    assert one["w_o"]["kernel"].shape == (32, 32)


def test_full_size_counts():
    def count(tree):
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))

    abstract = build(VDiffSR, VDiffSRConfig()).abstract
    assert len(abstract["cogu"]) == len(abstract["cspa"]) == 9
    assert count(abstract["unet"]) == 118_593_583
    assert count(abstract["cogu"]) / 1e6 == pytest.approx(9.0, abs=0.1)
    assert count(abstract["cspa"]) / 1e6 == pytest.approx(4.2, abs=0.1)


@pytest.mark.parametrize(("size", "level"), [(64, 9), (16, 9), (15, 8), (8, 6), (1, 0)])
def test_aligned_level_is_the_finest_that_fits(size, level):
    assert aligned_level((1, 2, 3, 4, 5, 6, 8, 10, 13, 16), size) == level


def test_refusals_say_what_to_do():
    network = build(VDiffSR, CFG)
    with pytest.raises(ValueError, match="needs a prior; call encode_prior"):
        jax.eval_shape(network.apply, network.abstract, X, T, LR)
    with pytest.raises(ValueError, match=r"levels \(1, 2\) must be \(1, 2, 4\)"):
        jax.eval_shape(lambda p: network.method(VDiffSR.encode_prior)(p, pyramid(1)[:2]), network.abstract)
    cache = jax.eval_shape(lambda p: network.method(VDiffSR.encode_prior)(p, pyramid(1)), network.abstract)
    big = jnp.zeros((2, 16, 16, 3))
    with pytest.raises(ValueError, match="16x16 is not one VAR window, 8 squared"):
        jax.eval_shape(network.apply, network.abstract, big, T, big, cache)
    plain = build(VDiffSR, dataclasses.replace(CFG, prior=None))
    with pytest.raises(ValueError, match="has no prior"):
        jax.eval_shape(plain.apply, plain.abstract, X, T, LR, cache)
    with pytest.raises(ValueError, match="the UNet's weights do not fit"):
        from_unet({}, CFG, KEY)
    with pytest.raises(ValueError, match="fits a stage"):
        aligned_level((4, 8), 2)
    with pytest.raises(ConfigError, match=r"cspa\.levels"):
        dataclasses.replace(CFG, cspa=CSPAConfig(levels=(3,)))
