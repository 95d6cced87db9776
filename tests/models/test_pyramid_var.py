"""PyramidVAR: shapes, what it holds and trains, that folding and fresh LoRA change nothing, its controls."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.config import ConfigError, PriorConfig, VARConfig, VARTokenizerConfig
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.pyramid_var import PyramidVAR, split_levels
from vdiffsr_jax.models.var import VAR
from vdiffsr_jax.models.var_tokenizer import VARTokenizer

CFG = PriorConfig(
    tokenizer=VARTokenizerConfig(
        vocab_size=16, z_channels=8, ch=32, ch_mult=(1,), num_res_blocks=1, patch_nums=(1, 2, 4), share_quant_resi=2
    ),
    var=VARConfig(depth=3, width=32, num_heads=2, num_classes=5, patch_nums=(1, 2, 4), vocab_size=16, code_dim=8),
    taps=(1, 2),
    dim=12,
    lora_rank=2,
)


def random(network: Network, seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    flat = {name: rng.normal(0, 0.3, leaf.shape).astype(np.float32) for name, leaf in flatten(network.abstract).items()}
    return unflatten(flat, network.abstract)


def windows(count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 3)).astype(np.float32)


def run(network: Network, params: Params, x: Any) -> tuple[jax.Array, ...]:
    return jax.jit(network.apply)(params, x)


@pytest.fixture(scope="module")
def own() -> tuple[Params, tuple[jax.Array, ...]]:
    """Random parameters and the prior they give for two windows."""
    network = build(PyramidVAR, CFG)
    params = random(network)
    return params, run(network, params, windows())


def test_one_map_per_level_by_the_equation(own: tuple[Params, tuple[jax.Array, ...]]):
    params, pyramid = own
    assert [p.shape for p in pyramid] == [(2, 1, 1, 12), (2, 2, 2, 12), (2, 4, 4, 12)]

    tokenizer = build(VARTokenizer, CFG.tokenizer, decoder=False)

    @jax.jit
    def parts(params: Params, x: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        tokens = tokenizer.method(VARTokenizer.tokens)(
            params["tokenizer"], tokenizer.method(VARTokenizer.encode)(params["tokenizer"], x)
        )
        x_in, f_hat = tokenizer.method(VARTokenizer.var_input_and_f_hat)(params["tokenizer"], tokens)
        trunk = build(lambda rngs: PyramidVAR(CFG, rngs=rngs).var)
        null = jnp.full((2,), CFG.var.num_classes, jnp.int32)
        return trunk.method(VAR.hidden_states)(params["var"], null, x_in, (1, 2)), f_hat

    hidden, f_hat = (np.asarray(a, np.float64) for a in parts(params, windows()))
    adapter = jax.tree.map(lambda x: np.asarray(x, np.float64), params["adapter"])
    tokens = []
    for i, k in enumerate([0] + [1] * 4 + [2] * 16):
        a = np.exp(adapter["mix"][k]) / np.exp(adapter["mix"][k]).sum()
        h = a[0] * hidden[0][:, i] + a[1] * hidden[1][:, i]
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
        h = h * adapter["norm"]["scale"] + adapter["norm"]["bias"]
        tokens.append(h @ adapter["linear"]["kernel"] + adapter["linear"]["bias"] + adapter["level_embed"][k])
    finest = np.stack(tokens[5:], axis=1).reshape(2, 4, 4, 12)
    finest = finest + f_hat @ np.asarray(params["code_proj"]["kernel"]) + np.asarray(params["code_proj"]["bias"])
    np.testing.assert_allclose(pyramid[0][:, 0, 0], tokens[0], atol=5e-6)  # measured 2e-7
    np.testing.assert_allclose(pyramid[2], finest, atol=5e-6)


def test_split_levels_is_row_by_row():
    tokens = jnp.arange(5.0).reshape(1, 5, 1)
    coarse, fine = split_levels(tokens, (1, 2))
    assert coarse.ravel().tolist() == [0]
    assert fine[0, ..., 0].tolist() == [[1, 2], [3, 4]]


def test_holds_only_what_the_prior_needs():
    names = flatten(build(PyramidVAR, CFG).abstract)
    assert not [n for n in names if n.startswith(("tokenizer/decoder", "tokenizer/post_quant_conv", "var/head"))]
    assert {n.split("/")[2] for n in names if n.startswith("var/blocks/")} == {"0", "1"}


def test_what_is_trained_at_the_published_size():
    shapes = flatten(build(PyramidVAR, PriorConfig()).abstract)

    def count(train: str) -> int:
        return sum(
            x.size for name, x in shapes.items() if PyramidVAR.trainable(name, dataclasses.replace(CFG, train=train))
        )

    adapter = 2 * 1024 + 1024 * 256 + 256 + 10 * 256 + 10 * 4 + 32 * 256 + 256
    lora = 16 * 16 * ((1024 + 3072) + (1024 + 1024) + 2 * (1024 + 4096))
    assert (count("none"), count("adapter"), count("lora")) == (0, adapter, adapter + lora)
    assert (adapter, lora) == (275_496, 4_194_304)
    assert count("full") == sum(x.size for name, x in shapes.items() if not name.startswith("tokenizer/"))


@pytest.mark.parametrize("train", ["adapter", "lora"])
def test_gradients_reach_what_is_trained_and_stop_below(train: str):
    network = build(PyramidVAR, dataclasses.replace(CFG, train=train))
    params = random(network)

    def loss(params: Params) -> jax.Array:
        return sum((jnp.square(p).sum() for p in network.apply(params, windows())), jnp.zeros(()))

    gradients = flatten(jax.jit(jax.grad(loss))(params))
    reached = {name for name, g in gradients.items() if np.abs(g).max() > 0}
    assert {name for name in gradients if PyramidVAR.trainable(name, dataclasses.replace(CFG, train=train))} <= reached
    if train == "adapter":
        assert not [name for name in reached if name.startswith("var/")]
    assert not [name for name in reached if name.startswith("tokenizer/")]


def test_folding_changes_nothing(own: tuple[Params, tuple[jax.Array, ...]]):
    params, pyramid = own
    folded, folded_cfg = PyramidVAR.fold(params, CFG)
    assert (folded_cfg.lora_rank, folded_cfg.var.folded, folded_cfg.tap_layers) == (0, True, (1, 2))
    small = build(PyramidVAR, folded_cfg)
    small.check(folded)
    for a, b in zip(pyramid, run(small, folded, windows()), strict=True):
        np.testing.assert_allclose(b, a, atol=5e-6)  # measured 2.4e-7


def test_folded_size_of_the_published_prior():
    cfg = PriorConfig()
    whole = build(VAR, cfg.var).abstract
    folded = jax.eval_shape(lambda p: PyramidVAR.fold({"var": p}, cfg)[0]["var"], whole)
    assert sum(x.size for x in jax.tree.leaves(whole)) == 310_283_520
    assert sum(x.size for x in jax.tree.leaves(folded)) == 206_498_048


def test_load_parts_keeps_the_weights_and_starts_lora_at_zero():
    cfg = dataclasses.replace(CFG, var=dataclasses.replace(CFG.var, depth=2), taps=(1,))
    var, tokenizer = random(build(VAR, cfg.var), 1), random(build(VARTokenizer, cfg.tokenizer), 2)
    params = PyramidVAR.assemble({"var": var, "tokenizer": tokenizer}, cfg, jax.random.key(0))
    np.testing.assert_array_equal(params["var"]["blocks"][0]["fc1"]["kernel"], var["blocks"][0]["fc1"]["kernel"])
    np.testing.assert_array_equal(params["tokenizer"]["quantizer"]["codebook"], tokenizer["quantizer"]["codebook"])
    for name, x in flatten(params).items():
        assert not name.endswith("lora_b") or not np.asarray(x).any()

    control = PyramidVAR.assemble(
        {"var": var, "tokenizer": tokenizer}, dataclasses.replace(cfg, mode="random_weights"), jax.random.key(0)
    )
    assert np.abs(control["var"]["pos"] - var["pos"]).max() > 0.1
    np.testing.assert_array_equal(control["tokenizer"]["quant_conv"]["kernel"], tokenizer["quant_conv"]["kernel"])


def test_load_parts_names_what_does_not_fit():
    var, tokenizer = random(build(VAR, CFG.var)), random(build(VARTokenizer, CFG.tokenizer))
    lacking = {name: x for name, x in var.items() if name != "pos_start"}
    with pytest.raises(ValueError, match="missing var/pos_start"):
        PyramidVAR.assemble({"var": lacking, "tokenizer": tokenizer}, CFG, jax.random.key(0))
    with pytest.raises(ValueError, match=r"var/pos has shape \(20, 32\), needs \(21, 32\)"):
        PyramidVAR.assemble({"var": var | {"pos": var["pos"][1:]}, "tokenizer": tokenizer}, CFG, jax.random.key(0))


def test_another_window_size_is_refused():
    network = build(PyramidVAR, CFG)
    with pytest.raises(ValueError, match="takes windows of 4x4x3, not 8x8x3"):
        network.apply(random(network), np.zeros((1, 8, 8, 3), np.float32))


def test_training_lora_needs_a_rank():
    with pytest.raises(ConfigError, match=r"prior\.train=lora needs prior\.lora_rank of at least 1"):
        dataclasses.replace(CFG, lora_rank=0)
