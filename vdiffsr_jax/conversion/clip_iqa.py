"""CLIPIQA: names of OpenAI's CLIP `RN50.pt` to ours."""

from __future__ import annotations

import functools
from typing import Any

from vdiffsr_jax.config import parse
from vdiffsr_jax.conversion.rules import Drop, FileKind, Rule, Shapes, Table, count, need
from vdiffsr_jax.conversion.torch_layers import CONV, LINEAR, batch_norm, layer, norm
from vdiffsr_jax.models.clip_iqa import CLIPIQAConfig


def _image() -> list[Rule]:
    rules = []
    for i in range(3):
        rules.append(Rule(rf"visual\.conv{i + 1}\.weight", f"image/stem/{i}/conv/kernel", CONV))
        rules += batch_norm(rf"visual\.bn{i + 1}", f"image/stem/{i}/norm")
    for stage in range(4):
        block, ours = rf"visual\.layer{stage + 1}\.(\d+)\.", rf"image/stages/{stage}/\1/"
        for i in range(3):
            rules.append(Rule(rf"{block}conv{i + 1}\.weight", f"{ours}convs/{i}/conv/kernel", CONV))
            rules += batch_norm(rf"{block}bn{i + 1}", f"{ours}convs/{i}/norm")
        rules.append(Rule(rf"{block}downsample\.0\.weight", f"{ours}skip/conv/kernel", CONV))
        rules += batch_norm(rf"{block}downsample\.1", f"{ours}skip/norm")
    for theirs, part in (("q", "query"), ("k", "key"), ("v", "value"), ("c", "out")):
        rules += layer(rf"visual\.attnpool\.{theirs}_proj", f"image/{part}", LINEAR)
    return rules


def _text() -> list[Rule]:
    block, ours = r"transformer\.resblocks\.(\d+)\.", r"text/blocks/\1/"
    rules = [
        Rule(r"token_embedding\.weight", "text/token"),
        Rule(r"positional_embedding", "text/position"),
        *norm("ln_final", "text/norm"),
        Rule(r"text_projection", "text/out/kernel"),
        Rule(block + r"attn\.in_proj_weight", ours + "qkv/kernel", LINEAR),
        Rule(block + r"attn\.in_proj_bias", ours + "qkv/bias"),
        *norm(block + "ln_([12])", ours + r"norm\2"),
    ]
    for theirs, part in ((r"attn\.out_proj", "out"), (r"mlp\.c_fc", "fc1"), (r"mlp\.c_proj", "fc2")):
        rules += layer(block + theirs, ours + part, LINEAR)
    return rules


TABLE: Table = (
    *_image(),
    *_text(),
    Rule("logit_scale", "log_scale"),
    Drop(r"visual\.attnpool\.positional_embedding", "CLIPIQA takes pictures of any size, without position embedding"),
    Drop(r".*\.num_batches_tracked", "a counter of training"),
    Drop("input_resolution|context_length|vocab_size", "a number that the shapes tell"),
)


def infer_config(shapes: Shapes, /, **overrides: Any) -> CLIPIQAConfig:
    """The configuration that tensor shapes imply.

    Raises: ConversionError if a needed name is missing; ConfigError.
    """
    shape = functools.partial(need, shapes, what="CLIP of the ResNet kind", rank=2)
    (vocabulary, text_width), context = shape("token_embedding.weight"), shape("positional_embedding")[0]
    values = {
        "width": shape("visual.layer1.0.conv1.weight")[0],
        "blocks": [count(shapes, rf"visual\.layer{stage}\.(\d+)\.") for stage in range(1, 5)],
        "embed": shape("text_projection")[1],
        "text_width": text_width,
        "text_depth": count(shapes, r"transformer\.resblocks\.(\d+)\."),
        "context": context,
        "vocabulary": vocabulary,
    }
    return parse(CLIPIQAConfig, values | overrides)


MARKS = ("visual.attnpool.c_proj.weight", "token_embedding.weight", "logit_scale")
KIND = FileKind("CLIP (ResNet kind)", (MARKS,), infer_config, lambda config: TABLE)
