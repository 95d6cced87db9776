"""float32 is float32: what is lowered for a GPU asks for all digits of every product of float32 operands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from tests.golden.quality.recipe import CLIP_SIZES, MUSIQ_SIZES
from tests.sampling.conftest import tiny_config
from tests.training import tiny
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.clip_iqa import CLIPIQAConfig
from vdiffsr_jax.models.musiq import MUSIQConfig
from vdiffsr_jax.models.perceptual import BACKBONES
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.sampling.tile_program import noise_fields, upscale_tiles
from vdiffsr_jax.training import sequence, tasks
from vdiffsr_jax.training.abstract import trace_step
from vdiffsr_jax.training.chain import runs
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.tasks import sources

ROOT = Path(__file__).parents[2]
PRODUCT = re.compile(r"stablehlo\.(?:dot|convolution).*")
FLOAT32 = re.compile(r": \(tensor<(?:\d+x)*f32>")


def products(traced: jax.stages.Traced) -> list[str]:
    """Every product and convolution of float32 operands in the program for CUDA, as it is written there."""
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return [product for product in PRODUCT.findall(text) if FLOAT32.search(product)]


def rounded(traced: jax.stages.Traced) -> list[str]:
    found = products(traced)
    assert found
    return [product for product in found if product.count("HIGHEST") != 2]


def image(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_product_that_asks_for_nothing_is_found():
    x = image(4, 4)
    assert len(rounded(jax.jit(lambda x: x @ x).trace(x))) == 1
    kernel = image(3, 3, 4, 4)
    assert len(rounded(jax.jit(lambda x, k: jax.lax.conv(x, k, (1, 1), "SAME")).trace(image(1, 3, 8, 8), kernel))) == 1


@pytest.fixture(scope="module")
def steps() -> dict[str, jax.stages.Traced]:
    """Every run of a chain, the last with all of its terms; what an earlier one will have made is promised."""
    settings, root, traced = tiny.chain(), epath.Path("chain"), {}
    settings["sharp"]["loss"] |= {"perceptual": 1.0}
    settings["sharp"]["init_from"] |= {"perceptual": "lpips"}
    promises = {"lpips": ("perceptual", kinds.PerceptualConfig("alexnet"))}
    for path, values in runs(settings, str(root)).items():
        cfg = parse_train(values | {"batch_size": jax.device_count()})
        with sources.promised(promises):
            traced[path.name] = trace_step(cfg).traced
            promises |= sequence._promises(tasks.make(cfg), path)
    return traced


@pytest.mark.parametrize("name", tiny.chain())
def test_a_train_step_in_float32_rounds_no_product(steps: dict[str, jax.stages.Traced], name: str):
    """First stage, tokenizer, transformer, prior, denoiser, discriminators, perceptual distance; their gradients."""
    assert not rounded(steps[name])


def test_sampling_in_float32_rounds_no_product():
    model = assemble(tiny_config())
    items = {name: network.abstract for name, network in model.networks.items()}

    def run(items: Any, lr: jax.Array, eps: jax.Array) -> jax.Array:
        return upscale_tiles(model, items, lr, None, eps, steps=2, method="ancestral")

    eps = image(2, noise_fields(2, "ancestral"), 16, 16, 3)
    assert not rounded(jax.jit(run).trace(items, image(2, 16, 16, 3), eps))


def test_codes_are_searched_in_all_digits_in_bfloat16_too():
    """Of the first stage and of VAR's tokenizer, whose levels each depend on the codes of the one before."""
    config = tiny_config()
    assert config.prior is not None
    tokenizer, side = config.prior.tokenizer, config.prior.tokenizer.patch_nums[-1]
    codes = build(VQGAN, config.first_stage, dtype=jnp.bfloat16), build(VARTokenizer, tokenizer, dtype=jnp.bfloat16)
    first_stage = jax.jit(codes[0].method(VQGAN.quantize)).trace(codes[0].abstract, image(1, 16, 16, 3))
    assert not rounded(first_stage)
    levels = jax.jit(codes[1].method(VARTokenizer.tokens))
    assert not rounded(levels.trace(codes[1].abstract, image(1, side, side, tokenizer.z_channels)))


JUDGES: dict[str, tuple[str, Any, int]] = {
    "musiq": ("musiq", MUSIQConfig(classes=10, **MUSIQ_SIZES), 1),
    "clip_iqa": ("clip_iqa", CLIPIQAConfig(**CLIP_SIZES), 1),
} | {name: ("perceptual", kinds.PerceptualConfig(name), 2) for name in (*BACKBONES, "dists")}


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_in_float32_rounds_no_product(name: str):
    kind, config, pictures = JUDGES[name]
    network = kinds.network(kind, kind, config)

    def marks(image: jax.Array, *rest: jax.Array, params: Any) -> jax.Array:
        return network.apply(params, image, *rest).sum()

    seen = [image(1, 96, 96, 3)] * pictures
    assert not rounded(jax.jit(jax.grad(marks)).trace(*seen, params=network.abstract))


def test_no_kind_is_left_out():
    trained = {"vqgan", "var_tokenizer", "var", "swin_unet", "vdiffsr", "pvar"}
    assert trained | {kind for kind, _, _ in JUDGES.values()} == set(kinds.KINDS)


def test_networks_are_called_where_their_precision_is_set():
    """Whoever merges a module by himself computes with the device's default: TF32 on a GPU."""
    sources = [path for room in ("vdiffsr_jax", "benchmarks", "tests") for path in (ROOT / room).rglob("*.py")]
    merging = {str(path.relative_to(ROOT)) for path in sources if re.search(r"nnx\.(?:merge|call)\(", path.read_text())}
    assert merging == {"vdiffsr_jax/models/build.py"}
