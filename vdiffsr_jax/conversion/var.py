"""VAR's transformer: PyTorch names of `var_d16` ... `var_d36` to ours."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vdiffsr_jax.config import VARConfig, parse
from vdiffsr_jax.conversion.rules import ConversionError, Drop, FileKind, Op, Rule, Shapes, Table, count, need
from vdiffsr_jax.conversion.torch_layers import LINEAR, layer, squeeze

PER_HEAD = Op(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))
BLOCK = r"blocks\.(\d+)\."

TABLE: Table = (
    Rule(r"pos_start", "pos_start", squeeze(1)),
    Rule(r"pos_1LC", "pos", squeeze(1)),
    Rule(r"class_emb\.weight", "class_embed"),
    Rule(r"lvl_embed\.weight", "level_embed"),
    *layer(r"word_embed", "word_embed", LINEAR),
    *layer(r"shared_ada_lin\.1", "shared_ada", LINEAR),
    Rule(BLOCK + r"ada_gss", r"blocks/\1/ada_gss", squeeze(2)),
    *layer(BLOCK + r"ada_lin\.1", r"blocks/\1/ada", LINEAR),
    Rule(BLOCK + r"attn\.scale_mul_1H11", r"blocks/\1/attn/log_scale", PER_HEAD),
    Rule(BLOCK + r"attn\.mat_qkv\.weight", r"blocks/\1/attn/qkv/kernel", LINEAR),
    Rule(BLOCK + r"attn\.([qv]_bias)", r"blocks/\1/attn/\2"),
    *layer(BLOCK + r"attn\.proj", r"blocks/\1/attn/proj", LINEAR),
    *layer(BLOCK + r"ffn\.(fc[12])", r"blocks/\1/\2", LINEAR),
    *layer(r"head_nm\.ada_lin\.1", "head_ada", LINEAR),
    *layer(r"head", "head", LINEAR),
    Drop(r"lvl_1L", "the level of each token follows from patch_nums"),
    Drop(r"attn_bias_for_masking", "the block-causal mask follows from patch_nums"),
    Drop(BLOCK + r"attn\.zero_k_bias", "keys have no bias: always zero"),
)

PUBLISHED_PATCH_NUMS = (
    (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),  # 256 pixels, 680 tokens
    (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),  # 512 pixels, 2240 tokens
)


def infer_config(shapes: Shapes, /, **overrides: Any) -> VARConfig:
    """The configuration that tensor shapes imply; `overrides` are VARConfig fields that shapes cannot tell.

    Args: shapes: {PyTorch name: shape}.
    Raises: ConversionError if a needed name is missing, or patch_nums or num_heads cannot be told and is not given.
    """
    shape = functools.partial(need, shapes, what="VAR transformer")
    width, code_dim = shape("word_embed.weight")
    values: dict[str, Any] = {
        "depth": count(shapes, BLOCK),
        "width": width,
        "mlp_ratio": shape("blocks.0.ffn.fc1.weight")[0] / width,
        "num_classes": shape("class_emb.weight")[0] - 1,
        "shared_aln": "shared_ada_lin.1.weight" in shapes,
        "attn_l2_norm": "blocks.0.attn.scale_mul_1H11" in shapes,
        "vocab_size": shape("head.weight")[0],
        "code_dim": code_dim,
    }
    if values["attn_l2_norm"]:
        values["num_heads"] = shape("blocks.0.attn.scale_mul_1H11")[1]
    elif "num_heads" not in overrides:
        raise ConversionError("num_heads does not show in the shapes of a VAR without attn_l2_norm; give num_heads")
    tokens, levels = shape("pos_1LC")[1], shape("lvl_embed.weight")[0]
    if "patch_nums" not in overrides:
        fits = [p for p in PUBLISHED_PATCH_NUMS if len(p) == levels and sum(n * n for n in p) == tokens]
        if not fits:
            raise ConversionError(
                f"{tokens} tokens in {levels} levels is no published VAR; give patch_nums, the side of every level"
            )
        values["patch_nums"] = fits[0]
    cfg = parse(VARConfig, values | overrides)
    if (cfg.num_tokens, len(cfg.patch_nums)) != (tokens, levels):
        raise ConversionError(
            f"patch_nums={cfg.patch_nums} makes {cfg.num_tokens} tokens in {len(cfg.patch_nums)} levels; "
            f"the file has {tokens} in {levels}"
        )
    return cfg


def depth_doubts(names: Iterable[str], config: VARConfig, told_by: Mapping[str, str]) -> list[str]:
    """Why the depth that the block numbers show may not be the network's own.

    Args: names: of the tensors. told_by: {how messages call it: a name that may tell the depth, as var_d16 does}.
    """
    blocks = {int(m[1]) for name in names if (m := re.match(BLOCK, name))}
    found = []
    if gaps := sorted(set(range(config.depth)) - blocks):
        found.append(f"it lacks the blocks {', '.join(map(str, gaps))} of {config.depth}")
    if config.depth * 64 != config.width:
        found.append(
            f"it has {config.depth} blocks of width {config.width}, and every published VAR has width / 64 blocks "
            f"(here {config.width / 64:g})"
        )
    for what, name in told_by.items():
        if (m := re.search(r"var[-_]?d(\d+)", name, re.IGNORECASE)) and int(m[1]) != config.depth:
            found.append(f"{what} says depth {int(m[1])}, and it has {config.depth} blocks")
    return found


KIND = FileKind("VAR transformer", (("pos_1LC", "word_embed.weight"),), infer_config, lambda config: TABLE)
