"""MUSIQ: names of pyiqa's `musiq_*_ckpt-*.pth` and of google-research's `*_ckpt.npz` to ours."""

from __future__ import annotations

from typing import Any

from vdiffsr_jax.config import parse
from vdiffsr_jax.conversion.rules import Drop, FileKind, Op, Rule, Shapes, Table, count, need
from vdiffsr_jax.conversion.torch_layers import CONV, LINEAR, layer, norm, squeeze
from vdiffsr_jax.models.musiq import MUSIQConfig

# Flax keeps heads apart: (width, heads, 64) and back, biases (heads, 64), gains of GroupNorm (1, 1, 1, c).
_TO_HEADS = Op(lambda x: x.reshape(x.shape[0], -1), lambda x: x.reshape(x.shape[0], -1, 64))
_FROM_HEADS = Op(lambda x: x.reshape(-1, x.shape[-1]), lambda x: x.reshape(-1, 64, x.shape[-1]))
_FLAT = Op(lambda x: x.reshape(-1), lambda x: x)

_BLOCK = r"transformer_encoder\.transformer\.encoderblock_(\d+)\."
_PYIQA: Table = (
    Rule(r"conv_root\.weight", "stem/root/kernel", CONV),
    *norm("gn_root", "stem/root_norm"),
    *(Rule(rf"block1\.conv{i + 1}\.weight", f"stem/convs/{i}/kernel", CONV) for i in range(3)),
    *(rule for i in range(3) for rule in norm(rf"block1\.gn{i + 1}", f"stem/norms/{i}")),
    Rule(r"block1\.conv_proj\.weight", "stem/skip/kernel", CONV),
    *norm(r"block1\.gn_proj", "stem/skip_norm"),
    *layer("embedding", "embed", LINEAR),
    Rule(r"transformer_encoder\.posembed_input\.position_emb", "position", squeeze(1)),
    Rule(r"transformer_encoder\.scaleembed_input\.scale_emb", "scale"),
    Rule(r"transformer_encoder\.cls", "first"),
    *norm(r"transformer_encoder\.encoder_norm", "norm"),
    *norm(_BLOCK + "(norm[12])", r"blocks/\1/\2"),
    *layer(_BLOCK + r"attention\.(query|key|value|out)", r"blocks/\1/\2", LINEAR),
    *layer(_BLOCK + r"mlp\.(fc[12])", r"blocks/\1/\2", LINEAR),
    *layer("head", "head", LINEAR),
    *layer(r"head\.0", "head", LINEAR),
)

_TARGET = "opt/target/"
_UNIT = _TARGET + "block1/unit1/"
_ENCODER = _TARGET + "Transformer/"
_LAYER = _ENCODER + r"encoderblock_(\d+)/"
_ATTENTION = _LAYER + r"(?:MultiHeadDotProductAttention|SelfAttention)_1/"
_GOOGLE: Table = (
    Rule(_TARGET + "conv_root/kernel", "stem/root/kernel"),
    Rule(_TARGET + "gn_root/(scale|bias)", r"stem/root_norm/\1", _FLAT),
    *(Rule(_UNIT + f"conv{i + 1}/kernel", f"stem/convs/{i}/kernel") for i in range(3)),
    *(Rule(_UNIT + f"gn{i + 1}/(scale|bias)", rf"stem/norms/{i}/\1", _FLAT) for i in range(3)),
    Rule(_UNIT + "conv_proj/kernel", "stem/skip/kernel"),
    Rule(_UNIT + "gn_proj/(scale|bias)", r"stem/skip_norm/\1", _FLAT),
    Rule(_TARGET + "(embed)ding/(kernel|bias)", r"\1/\2"),
    Rule(_ENCODER + "posembed_input/pos_embedding", "position", squeeze(1)),
    Rule(_ENCODER + "scaleembed_input/scale_embedding", "scale", squeeze(1)),
    Rule(_ENCODER + "cls", "first"),
    Rule(_ENCODER + "encoder_norm/(scale|bias)", r"norm/\1"),
    Rule(_LAYER + "LayerNorm_0/(scale|bias)", r"blocks/\1/norm1/\2"),
    Rule(_LAYER + "LayerNorm_2/(scale|bias)", r"blocks/\1/norm2/\2"),
    Rule(_ATTENTION + "(query|key|value)/kernel", r"blocks/\1/\2/kernel", _TO_HEADS),
    Rule(_ATTENTION + "(query|key|value)/bias", r"blocks/\1/\2/bias", _FLAT),
    Rule(_ATTENTION + "out/kernel", r"blocks/\1/out/kernel", _FROM_HEADS),
    Rule(_ATTENTION + "out/bias", r"blocks/\1/out/bias"),
    *(Rule(_LAYER + f"MlpBlock_3/Dense_{i}/(kernel|bias)", rf"blocks/\1/fc{i + 1}/\2") for i in range(2)),
    Rule(_TARGET + "head/(kernel|bias)", r"head/\1"),
    Drop("(?!opt/target/).*/.*", "the optimizer's state"),
)
TABLE: Table = (*_PYIQA, *_GOOGLE)


def infer_config(shapes: Shapes, /, **overrides: Any) -> MUSIQConfig:
    """The configuration that tensor shapes imply; `trained_on` they cannot tell.

    Raises: ConversionError if a needed name is missing; ConfigError.
    """
    flax = any(name.startswith(_TARGET) for name in shapes)
    embed, head, mlp = (
        ("opt/target/embedding/kernel", "opt/target/head/kernel", f"{_ENCODER}encoderblock_0/MlpBlock_3/Dense_0/kernel")
        if flax
        else ("embedding.weight", "head.0.weight" if "head.0.weight" in shapes else "head.weight",
              "transformer_encoder.transformer.encoderblock_0.mlp.fc1.weight")
    )  # fmt: skip
    out = 1 if flax else 0  # the axis of outputs
    width, mlp_width, classes = (need(shapes, name, "MUSIQ", rank=2)[out] for name in (embed, mlp, head))
    depth = count(shapes, r".*encoderblock_(\d+)")
    values = {"depth": depth, "width": width, "mlp_width": mlp_width, "classes": classes}
    return parse(MUSIQConfig, values | overrides)


MARKS = (("conv_root.weight", "transformer_encoder.cls"), ("opt/target/conv_root/kernel", "opt/target/Transformer/cls"))
KIND = FileKind("MUSIQ", MARKS, infer_config, lambda config: TABLE)
