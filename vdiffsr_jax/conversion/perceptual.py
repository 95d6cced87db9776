"""Names of torchvision's VGG16 and AlexNet, of the lpips heads, and of the EfficientNet-Lite0 wheel on PyPI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vdiffsr_jax.conversion.rules import CONV, ConversionError, Drop, Op, Rule, Table

_DEPTHWISE = Op(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # C1kk <-> kk1C
_HEAD = Op(lambda x: x.reshape(-1), lambda x: x.reshape(1, -1, 1, 1))
_VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEXNET = (0, 3, 6, 8, 10)


def _sequential(positions: Iterable[int]) -> list[Rule | Drop]:
    rules: list[Rule | Drop] = [Drop(r"classifier\..*", "the distance ends at the last convolution")]
    for i, position in enumerate(positions):
        rules.append(Rule(rf"features\.{position}\.weight", f"backbone/convs/{i}/kernel", CONV))
        rules.append(Rule(rf"features\.{position}\.bias", f"backbone/convs/{i}/bias"))
    rules.append(Rule(r"lin(\d)\.model\.1\.weight", r"heads/\1", _HEAD))
    return rules


def _efficientnet() -> list[Rule | Drop]:
    rules: list[Rule | Drop] = [
        Drop(
            r"(_conv_head|_bn1|_fc)\.(weight|bias|running_mean|running_var)",
            "the distance ends at the last inverted residual",
        ),
        Drop(r".*\.num_batches_tracked", "a counter of training"),
        Rule(r"_conv_stem\.weight", "backbone/stem/conv/kernel", CONV),
    ]
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    places = [("_bn0", "backbone/stem", "")]
    for ours, (conv, norm) in parts.items():
        op = _DEPTHWISE if ours == "depthwise" else CONV
        rules.append(Rule(rf"_blocks\.(\d+)\.{conv}\.weight", rf"backbone/blocks/\1/{ours}/conv/kernel", op))
        places.append((rf"_blocks\.(\d+)\.{norm}", rf"backbone/blocks/\1/{ours}", r"\1"))
    for theirs, ours, _ in places:
        for a, b in (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var")):
            rules.append(Rule(rf"{theirs}\.{a}", rf"{ours}/norm/{b}"))
    return rules


TABLES: dict[str, Table] = {
    "vgg16": _sequential(_VGG16),
    "alexnet": _sequential(_ALEXNET),
    "efficientnet_lite0": _efficientnet(),
}


def infer_backbone(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which of the three backbones a file holds, from its names and the first kernel's size.

    Raises: ConversionError if it is none of them.
    """
    if "_conv_stem.weight" in shapes:
        return "efficientnet_lite0"
    first = shapes.get("features.0.weight")
    if first == (64, 3, 3, 3) and "features.28.weight" in shapes:
        return "vgg16"
    if first == (64, 3, 11, 11):
        return "alexnet"
    raise ConversionError("not a torchvision vgg16 or alexnet (features.N.weight) nor an EfficientNet-Lite0 file")


def is_lpips_heads(names: Iterable[str]) -> bool:
    """Whether a file is the lpips package's own small one (lin0.model.1.weight ...)."""
    return all(re.fullmatch(r"lin\d\.model\.1\.weight", name) for name in names)
