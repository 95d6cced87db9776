"""VAR against the original and its invariants: causality over levels, cached generation, folding, LoRA, training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity import compare
from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.var import VAR
from vdiffsr_jax.models.var_fold import fold_class, merge_lora

CFG = VARConfig(depth=2, width=32, num_heads=4, num_classes=5, patch_nums=(1, 2, 3), vocab_size=24, code_dim=6)
LABEL = jnp.array([1, 4], jnp.int32)
VARIANTS = {"per block, lora": {"lora_rank": 2}, "shared, dot-product": {"shared_aln": True, "attn_l2_norm": False}}


def random(network: Network, seed: int = 0) -> Params:
    """Every parameter drawn at a size that shows: a fresh VAR's gates would hide its attention."""
    rng = np.random.default_rng(seed)
    flat = {name: rng.normal(0, 0.3, leaf.shape).astype(np.float32) for name, leaf in flatten(network.abstract).items()}
    return jax.tree.map(jnp.asarray, unflatten(flat, network.abstract))


def run(network: Network, params: Params, *args: Any, method: Any = VAR.__call__) -> Any:
    return jax.jit(lambda p: network.method(method)(p, *args))(params)


def x_in(batch: int = 2, seed: int = 7) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (batch, CFG.num_tokens - 1, CFG.code_dim))


def test_published_numbers():
    lines = compare(Path(__file__).parents[1] / "golden" / "var_transformer_b")
    assert [str(line) for line in lines if not line.ok] == []
    assert len(lines) == 14


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_level_sees_itself_and_coarser_levels_only(variant: str):
    network = build(VAR, dataclasses.replace(CFG, **VARIANTS[variant]))
    params = random(network)
    forward = jax.jit(lambda x: network.apply(params, LABEL, x))
    before = forward(x_in())
    changed = forward(x_in().at[:, 6].add(1.0))  # a token of the last level: tokens 5..13, so x_in 4..12
    np.testing.assert_array_equal(changed[:, :5], before[:, :5])
    assert (np.abs(changed[:, 5:] - before[:, 5:]).max(axis=-1) > 1e-4).all()


def test_full_attention_sees_finer_levels_and_cannot_generate():
    network = build(VAR, dataclasses.replace(CFG, attention="full"))
    params = random(network)
    forward = jax.jit(lambda x: network.apply(params, LABEL, x))
    difference = np.abs(forward(x_in().at[:, 6].add(1.0)) - forward(x_in())).max(axis=-1)
    assert (difference[:, :5] > 1e-4).all()
    with pytest.raises(ValueError, match="it needs causal"):
        network.method(VAR.generate)(params, None, LABEL, jax.random.key(0))


def test_dot_product_attention_scale_without_l2_norm():
    cfg = dataclasses.replace(CFG, attn_l2_norm=False, patch_nums=(2,), depth=1)
    network = build(VAR, cfg)
    attn = random(network)["blocks"][0]["attn"]
    block = build(lambda rngs: VAR(cfg, rngs=rngs).blocks[0].attn)
    x = np.asarray(jax.random.normal(jax.random.key(1), (1, 4, 32)), np.float64)
    q, k, v = np.split(x[0] @ np.asarray(attn["qkv"]["kernel"], np.float64), 3, axis=-1)
    q, v = q + np.asarray(attn["q_bias"]), v + np.asarray(attn["v_bias"])
    heads = []
    for h in range(4):
        s = slice(8 * h, 8 * h + 8)
        logits = q[:, s] @ k[:, s].T * 0.25 / math.sqrt(8)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        heads.append(weights / weights.sum(axis=-1, keepdims=True) @ v[:, s])
    expected = np.concatenate(heads, axis=-1) @ np.asarray(attn["proj"]["kernel"]) + np.asarray(attn["proj"]["bias"])
    got, _ = run(block, attn, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got[0], expected, atol=2e-5)  # measured 1.2e-6


def test_head_scale_is_clamped_at_100():
    network = build(VAR, CFG)
    params = random(network)

    @jax.jit
    def logits(log_scale: float) -> jax.Array:
        flat = flatten(params)
        scales = {n: jnp.full(x.shape, log_scale) for n, x in flat.items() if n.endswith("log_scale")}
        return network.apply(unflatten(flat | scales, params), LABEL, x_in())

    np.testing.assert_array_equal(logits(5.0), logits(9.0))
    assert np.abs(logits(4.0) - logits(5.0)).max() > 1e-3


def test_generation_with_a_cache_is_the_teacher_forced_pass_over_its_own_tokens():
    network = build(VAR, CFG)
    params = random(network)
    codes = jax.random.normal(jax.random.key(3), (CFG.vocab_size, CFG.code_dim))

    def next_input(k: int, f_hat: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        p = CFG.patch_nums[k]
        f_hat = f_hat + jax.image.resize(codes[tokens].reshape(-1, p, p, CFG.code_dim), f_hat.shape, "nearest")
        q = p + 1
        return f_hat, None if q > CFG.patch_nums[-1] else f_hat[:, :q, :q].reshape(f_hat.shape[0], q * q, -1)

    generate = jax.jit(
        lambda key: network.method(VAR.generate)(params, next_input, LABEL, key, guidance=1.5, top_k=8, top_p=0.9)
    )
    out = generate(jax.random.key(5))
    f_hat, inputs = jnp.zeros_like(out.f_hat), []
    for k in range(2):
        f_hat, level_input = next_input(k, f_hat, out.tokens[k])
        inputs.append(level_input)
    forced = jnp.concatenate(inputs, axis=1)
    with_class, without = (run(network, params, label, forced) for label in (LABEL, jnp.full_like(LABEL, 5)))
    edges = [0, 1, 5, 14]
    for k in range(3):
        t, level = 1.5 * k / 2, slice(edges[k], edges[k + 1])
        expected = (1 + t) * with_class[:, level] - t * without[:, level]
        np.testing.assert_allclose(out.logits[k], expected, atol=4e-5, rtol=0)  # measured 2e-6
        rank = (out.logits[k] > jnp.take_along_axis(out.logits[k], out.tokens[k][..., None], axis=-1)).sum(axis=-1)
        assert rank.max() < 8
        assert out.tokens[k].shape == (2, CFG.patch_nums[k] ** 2)
    again = generate(jax.random.key(6))
    assert any((a != b).any() for a, b in zip(out.tokens, again.tokens, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_folding_changes_nothing_for_its_class(variant: str):
    cfg = dataclasses.replace(CFG, **VARIANTS[variant])
    network = build(VAR, cfg)
    params = random(network)
    folded, folded_cfg = fold_class(merge_lora(params), cfg, label=4)
    small = build(VAR, dataclasses.replace(folded_cfg, lora_rank=0))
    small.check(folded)
    expected = run(network, params, LABEL[1:], x_in(1))
    got = run(small, folded, None, x_in(1))
    np.testing.assert_allclose(got, expected, atol=4e-5, rtol=0)  # measured 2e-6
    with pytest.raises(ValueError, match="folded already"):
        fold_class(folded, folded_cfg, label=4)
    with pytest.raises(ValueError, match="folded VAR knows one class only"):
        run(small, folded, lambda *_: None, LABEL, jax.random.key(0), method=VAR.generate)


def test_fresh_lora_is_the_identity():
    plain, lora = build(VAR, CFG), build(VAR, dataclasses.replace(CFG, lora_rank=4))
    base = random(plain)
    fresh = jax.jit(lambda key: {n: x for n, x in flatten(lora.init(key)).items() if "lora" in n})(jax.random.key(0))
    with_lora = unflatten(fresh | flatten(base), lora.abstract)
    np.testing.assert_array_equal(run(lora, with_lora, LABEL, x_in()), run(plain, base, LABEL, x_in()))


@pytest.mark.parametrize("policy", ["full", "dots"])
def test_remat_gives_the_same_gradients(policy):
    cfg = dataclasses.replace(CFG, depth=1, lora_rank=2)
    plain, remat = build(VAR, cfg), build(VAR, cfg, remat=policy)
    params = random(plain)

    def gradient(network: Network) -> dict[str, jax.Array]:
        return flatten(jax.jit(jax.grad(lambda p: jnp.square(network.apply(p, LABEL, x_in())).mean()))(params))

    expected, got = gradient(plain), gradient(remat)
    for name, g in expected.items():
        np.testing.assert_allclose(got[name], g, atol=1e-5 * np.abs(g).max() + 1e-9, rtol=0, err_msg=name)


def test_bfloat16_stays_near_float32():
    params = random(build(VAR, CFG))
    full = run(build(VAR, CFG), params, LABEL, x_in(), [2], method=VAR.hidden_states)[0]
    half = run(build(VAR, CFG, dtype=jnp.bfloat16), params, LABEL, x_in(), [2], method=VAR.hidden_states)[0]
    assert half.dtype == jnp.bfloat16
    assert np.abs(half.astype(jnp.float32) - full).max() / full.std() < 0.1  # measured 0.03


def test_wrong_input_is_refused():
    network = build(VAR, CFG)
    params = random(network)
    with pytest.raises(ValueError, match=r"x_in has shape \(2, 12, 6\); this VAR needs \(b, 13, 6\)"):
        run(network, params, LABEL, x_in()[:, 1:])
    with pytest.raises(ValueError, match="needs a class label"):
        run(network, params, None, x_in())
