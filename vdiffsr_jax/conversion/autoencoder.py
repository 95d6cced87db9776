"""PyTorch names of the encoder and decoder that VQGAN and VAR's tokenizer share, and what their shapes tell."""

from __future__ import annotations

import re
from typing import Any

from vdiffsr_jax.conversion.rules import ConversionError, Rule, Shapes, count, need
from vdiffsr_jax.conversion.torch_layers import CONV, CONV1X1, layer, norm

_HALF = r"(encoder|decoder)\."
_BLOCK = (
    (_HALF + r"(down|up)\.(\d+)\.block\.(\d+)\.", r"\1/\2/\3/block/\4/", 4),
    (_HALF + r"mid\.(block_[12])\.", r"\1/mid/\2/", 2),
)
_ATTENTION = (
    (_HALF + r"(down|up)\.(\d+)\.attn\.(\d+)\.", r"\1/\2/\3/attn/\4/", 4),
    (_HALF + r"mid\.(attn_1)\.", r"\1/mid/\2/", 2),
)


def _rules() -> list[Rule]:
    rules: list[Rule] = []
    for theirs, ours, n in _BLOCK:
        rules += norm(theirs + r"(norm[12])", rf"{ours}\{n + 1}")
        rules += layer(theirs + r"(conv[12])", rf"{ours}\{n + 1}", CONV)
        rules += layer(theirs + r"nin_shortcut", f"{ours}shortcut", CONV1X1)
    for theirs, ours, n in _ATTENTION:
        rules += norm(theirs + r"norm", f"{ours}norm")
        rules += layer(theirs + r"(qkv|q|k|v|proj_out)", rf"{ours}\{n + 1}", CONV1X1)
    rules += layer(_HALF + r"down\.(\d+)\.downsample\.conv", r"\1/down/\2/resample", CONV)
    rules += layer(_HALF + r"up\.(\d+)\.upsample\.conv", r"\1/up/\2/resample/conv", CONV)
    rules += norm(_HALF + r"norm_out", r"\1/norm_out")
    rules += layer(_HALF + r"(conv_in|conv_out)", r"\1/\2", CONV)
    return rules


TABLE = _rules()


def infer_shape(shapes: Shapes, what: str) -> dict[str, Any]:
    """ch, ch_mult, num_res_blocks and z_channels from {PyTorch name: shape}.

    Raises: ConversionError saying that this is not a `what` if a needed name is missing.
    """
    ch = need(shapes, "encoder.conv_in.weight", what)[0]
    levels = count(shapes, r"encoder\.down\.(\d+)\.")
    widths = [need(shapes, f"encoder.down.{i}.block.0.conv1.weight", what)[0] for i in range(levels)]
    uneven = [w for w in widths if w % ch]
    if not widths or uneven:
        raise ConversionError(f"this is not a {what}: its level widths {widths} are not multiples of its first, {ch}")
    return {
        "ch": ch,
        "ch_mult": [w // ch for w in widths],
        "num_res_blocks": len({m[1] for name in shapes if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", name))}),
        "z_channels": need(shapes, "encoder.conv_out.weight", what)[0],
    }
