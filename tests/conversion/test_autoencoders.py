"""Strict conversion of the published first stage and of VAR's tokenizer (shapes only), there and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.in_memory import convert, invert
from tests.parity_kinds import weights
from vdiffsr_jax.config import VARTokenizerConfig, VQGANConfig
from vdiffsr_jax.conversion import var_tokenizer, vqgan
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.models.vqgan import VQGAN

GOLDEN = Path(__file__).parents[1] / "golden"
LEVELS_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
PUBLISHED = [
    ("autoencoder_vq_f4", vqgan, VQGAN, {}, VQGANConfig()),
    ("vae_ch160v4096z32", var_tokenizer, VARTokenizer, {}, VARTokenizerConfig()),
    (
        "vae_ch160v4096z32_512", var_tokenizer, VARTokenizer, {"patch_nums": LEVELS_512},
        VARTokenizerConfig(patch_nums=LEVELS_512),
    ),
]  # fmt: skip


def manifest(name: str) -> dict:
    return json.loads((GOLDEN / "published_manifests" / f"{name}.json").read_text())


@pytest.mark.parametrize(("name", "table", "module", "overrides", "config"), PUBLISHED, ids=[p[0] for p in PUBLISHED])
def test_published_checkpoints_convert_strictly(name, table, module, overrides, config, monkeypatch):
    told = manifest(name)
    shapes = {key: tuple(spec["shape"]) for key, spec in told["tensors"].items()}
    assert table.infer_config(shapes, **overrides) == config
    monkeypatch.setattr(np, "ascontiguousarray", lambda x: x)  # keep the zero-stride arrays
    want = flatten(build(module, config).abstract)
    read = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    converted = convert(table.TABLE, shapes, read.__getitem__, want, name)
    assert converted.keys() == want.keys()
    assert sum(x.size for x in converted.values()) == told["parameters"]


@pytest.mark.parametrize(
    ("folder", "table", "module"), [("vqgan_f4", vqgan, VQGAN), ("vqvae_multiscale", var_tokenizer, VARTokenizer)]
)
def test_there_and_back_again_is_bit_equal(folder, table, module):
    tensors = weights.load(GOLDEN / folder)
    overrides = {"patch_nums": (1, 2)} if module is VARTokenizer else {}
    cfg = table.infer_config({name: x.shape for name, x in tensors.items()}, **overrides)
    flat = convert(table.TABLE, tensors, tensors.__getitem__, flatten(build(module, cfg).abstract), folder)
    back = invert(table.TABLE, tensors, flat)
    assert tensors.keys() - back.keys() == set(manifest("vae_ch160v4096z32")["buffers"]) & tensors.keys()
    for name, array in back.items():
        np.testing.assert_array_equal(array, tensors[name])


def test_another_network_is_refused():
    shapes = {key: tuple(spec["shape"]) for key, spec in manifest("var_d16")["tensors"].items()}
    with pytest.raises(ConversionError, match=r"not a VQGAN first stage: it has no tensor quantize\.embedding\.weight"):
        vqgan.infer_config(shapes)
    shapes = {key: tuple(spec["shape"]) for key, spec in manifest("autoencoder_vq_f4")["tensors"].items()}
    with pytest.raises(ConversionError, match=r"not a VAR tokenizer: it has no tensor quantize\.quant_resi"):
        var_tokenizer.infer_config(shapes)


def test_widths_that_are_no_multiples_are_refused():
    shapes = {key: tuple(spec["shape"]) for key, spec in manifest("autoencoder_vq_f4")["tensors"].items()}
    shapes["encoder.down.1.block.0.conv1.weight"] = (200, 128, 3, 3)
    with pytest.raises(ConversionError, match=r"level widths \[128, 200, 512\] are not multiples of its first, 128"):
        vqgan.infer_config(shapes)
