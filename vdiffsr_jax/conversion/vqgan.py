"""VQGAN-f4: PyTorch names of `autoencoder_vq_f4` to ours."""

from __future__ import annotations

from typing import Any

from vdiffsr_jax.config import VQGANConfig, parse
from vdiffsr_jax.conversion import autoencoder
from vdiffsr_jax.conversion.rules import Drop, FileKind, Rule, Shapes, Table, need
from vdiffsr_jax.conversion.torch_layers import CONV1X1, layer

TABLE: Table = (
    *autoencoder.TABLE,
    Rule(r"quantize\.embedding\.weight", "codebook"),
    *layer(r"(quant_conv|post_quant_conv)", r"\1", CONV1X1),
    Drop(r"loss\..*", "the loss of LDM's trainer (its discriminator and LPIPS) is no part of the first stage"),
)


def infer_config(shapes: Shapes, /, **overrides: Any) -> VQGANConfig:
    """The configuration that {PyTorch name: shape} implies; `overrides` are VQGANConfig fields.

    Raises: ConversionError if a needed name is missing; ConfigError if the shapes fit no configuration.
    """
    what = "VQGAN first stage"
    n_embed, embed_dim = need(shapes, "quantize.embedding.weight", what)
    values = autoencoder.infer_shape(shapes, what) | {
        "n_embed": n_embed,
        "embed_dim": embed_dim,
        "in_channels": need(shapes, "encoder.conv_in.weight", what)[1],
        "out_channels": need(shapes, "decoder.conv_out.weight", what)[0],
    }
    return parse(VQGANConfig, values | overrides)


MARKS = ("encoder.conv_in.weight", "quantize.embedding.weight")
KIND = FileKind("VQGAN first stage", (MARKS,), infer_config, lambda config: TABLE)
