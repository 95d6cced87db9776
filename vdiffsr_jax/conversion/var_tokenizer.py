"""VAR's tokenizer: PyTorch names of `vae_ch160v4096z32` to ours."""

from __future__ import annotations

import re
from typing import Any

from vdiffsr_jax.config import VARTokenizerConfig, parse
from vdiffsr_jax.conversion import autoencoder
from vdiffsr_jax.conversion.rules import Drop, FileKind, Rule, Shapes, Table, need
from vdiffsr_jax.conversion.torch_layers import CONV, layer

_PHI = r"quantize\.quant_resi\.qresi_ls\.(\d+)"

TABLE: Table = (
    *autoencoder.TABLE,
    Rule(r"quantize\.embedding\.weight", "quantizer/codebook"),
    *layer(_PHI, r"quantizer/phi/\1", CONV),
    *layer(r"(quant_conv|post_quant_conv)", r"\1", CONV),
    Drop(r"quantize\.ema_vocab_hit_SV", "counts how often training used each code"),
)


def infer_config(shapes: Shapes, /, **overrides: Any) -> VARTokenizerConfig:
    """The configuration that {PyTorch name: shape} implies; `overrides` are VARTokenizerConfig fields.

    The levels do not show in the shapes: without `patch_nums` they are those of the published 256-pixel model.

    Raises: ConversionError if a needed name is missing; ConfigError if the shapes fit no configuration.
    """
    what = "VAR tokenizer"
    vocab_size, _ = need(shapes, "quantize.embedding.weight", what)
    need(shapes, "quantize.quant_resi.qresi_ls.0.weight", what)
    values = autoencoder.infer_shape(shapes, what) | {
        "vocab_size": vocab_size,
        "share_quant_resi": len({m[1] for name in shapes if (m := re.match(_PHI, name))}),
    }
    return parse(VARTokenizerConfig, values | overrides)


MARKS = ("encoder.conv_in.weight", "quantize.embedding.weight", "quantize.quant_resi.qresi_ls.0.weight")
KIND = FileKind("VAR tokenizer", (MARKS,), infer_config, lambda config: TABLE)
