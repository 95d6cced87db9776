"""Strict conversion of every published VAR (shapes only) and what its shapes tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.in_memory import convert, invert
from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.conversion.var import TABLE, infer_config
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.var import VAR

MANIFESTS = Path(__file__).parents[1] / "golden" / "published_manifests"


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    tensors = json.loads((MANIFESTS / f"{name}.json").read_text())["tensors"]
    return {key: tuple(spec["shape"]) for key, spec in tensors.items()}


@pytest.mark.parametrize("name", ["var_d16", "var_d20", "var_d24", "var_d30", "var_d36"])
def test_published_checkpoints_convert_strictly(name: str, monkeypatch: pytest.MonkeyPatch):
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text())
    tensors, told = shapes(name), manifest["config"]
    cfg = infer_config(tensors)
    assert (cfg.depth, cfg.width, cfg.num_heads) == (told["depth"], told["embed_dim"], told["num_heads"])
    assert (cfg.shared_aln, cfg.patch_nums) == (told["shared_aln"], tuple(told["patch_nums"]))
    monkeypatch.setattr(np, "ascontiguousarray", lambda x: x)  # keep the zero-stride arrays: these are gigabytes
    want = flatten(build(VAR, cfg).abstract)
    read = {key: np.broadcast_to(np.float32(0), shape) for key, shape in tensors.items()}
    converted = convert(TABLE, tensors, read.__getitem__, want, name)
    assert converted.keys() == want.keys()
    assert sum(x.size for x in converted.values()) == manifest["parameters"]


def small() -> dict[str, np.ndarray]:
    """A VAR under PyTorch's names, with distinct numbers."""
    cfg = VARConfig(depth=2, width=8, num_heads=2, num_classes=3, patch_nums=(1, 2), vocab_size=16, code_dim=4)
    flat = {k: np.random.default_rng(len(k)).random(v.shape, np.float32) for k, v in network_shapes(cfg).items()}
    names = [n for n in shapes("var_d16") if not n.startswith("blocks.") or n.split(".")[1] in ("0", "1")]
    names = [n for n in names if "zero_k_bias" not in n and n not in ("lvl_1L", "attn_bias_for_masking")]
    return invert(TABLE, names, flat)


def network_shapes(cfg: VARConfig) -> dict[str, np.ndarray]:
    return {
        name: np.broadcast_to(np.float32(0), leaf.shape) for name, leaf in flatten(build(VAR, cfg).abstract).items()
    }


def small_shapes() -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in small().items()}


def test_there_and_back_again():
    tensors = small()
    cfg = infer_config({k: v.shape for k, v in tensors.items()}, patch_nums=[1, 2])
    flat = convert(TABLE, tensors, tensors.__getitem__, network_shapes(cfg), "small")
    back = invert(TABLE, tensors, flat)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)
    np.testing.assert_array_equal(flat["blocks/1/attn/qkv/kernel"], tensors["blocks.1.attn.mat_qkv.weight"].T)


def test_a_missing_tensor_is_named():
    tensors = small()
    cfg = infer_config({k: v.shape for k, v in tensors.items()}, patch_nums=(1, 2))
    del tensors["blocks.1.attn.q_bias"]
    with pytest.raises(ConversionError, match=r"missing: blocks\.1\.attn\.q_bias \(8,\)"):
        convert(TABLE, tensors, tensors.__getitem__, network_shapes(cfg), "small")


def test_levels_that_no_published_var_has_must_be_given():
    with pytest.raises(ConversionError, match="5 tokens in 2 levels is no published VAR; give patch_nums"):
        infer_config(small_shapes())
    with pytest.raises(ConversionError, match=r"patch_nums=\(1, 3\) makes 10 tokens in 2 levels; the file has 5 in 2"):
        infer_config(small_shapes(), patch_nums=(1, 3))


def test_heads_must_be_given_without_a_scale_per_head():
    tensors = {name: shape for name, shape in small_shapes().items() if "scale_mul" not in name}
    with pytest.raises(ConversionError, match="give num_heads"):
        infer_config(tensors, patch_nums=(1, 2))
    cfg = infer_config(tensors, patch_nums=(1, 2), num_heads=4)
    assert (cfg.num_heads, cfg.attn_l2_norm) == (4, False)


def test_another_network_is_refused():
    with pytest.raises(ConversionError, match=r"not a VAR transformer: it has no tensor word_embed\.weight"):
        infer_config(shapes("autoencoder_vq_f4"))
