"""Which network a state dict is, from its names, and its configuration, from its shapes and what is given besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vdiffsr_jax.config import ConfigError, SwinUNetConfig, parse, to_dict
from vdiffsr_jax.conversion import clip_iqa, musiq, perceptual, swin_unet, var, var_tokenizer, vqgan
from vdiffsr_jax.conversion.rules import ConversionError, Table
from vdiffsr_jax.models import kinds

Shapes = Mapping[str, tuple[int, ...]]

WHAT = {
    "var": "VAR transformer",
    "var_tokenizer": "VAR tokenizer",
    "vqgan": "VQGAN first stage",
    "swin_unet": "Swin UNet of ResShift or SinSR",
    "perceptual": "perceptual network",
    "musiq": "MUSIQ",
    "clip_iqa": "CLIP (ResNet kind)",
}
# The first kind whose names are all there: VAR's tokenizer has every name of a VQGAN and more.
_MARKS: dict[str, tuple[str, ...]] = {
    "var": ("pos_1LC", "word_embed.weight"),
    "var_tokenizer": ("encoder.conv_in.weight", "quantize.embedding.weight", "quantize.quant_resi.qresi_ls.0.weight"),
    "vqgan": ("encoder.conv_in.weight", "quantize.embedding.weight"),
    "swin_unet": ("time_embed.0.weight", "input_blocks.0.0.weight"),
    "clip_iqa": clip_iqa.MARKS,
}
_MODULES = {
    "var": var,
    "var_tokenizer": var_tokenizer,
    "vqgan": vqgan,
    "swin_unet": swin_unet,
    "musiq": musiq,
    "clip_iqa": clip_iqa,
}


def kind_of(names: Iterable[str], what: str) -> str:
    """The kind of network that has these names.

    Raises: ConversionError with the first names if it is none that is known.
    """
    names = list(names)
    for kind, marks in _MARKS.items():
        if all(mark in names for mark in marks):
            return kind
    if any(set(marks) <= set(names) for marks in musiq.MARKS):
        return "musiq"
    if perceptual.is_perceptual(names):
        return "perceptual"
    if distance := perceptual.heads_of(names):
        raise ConversionError(f"{what} holds only the heads of {distance}: give it with --heads beside its backbone")
    known = ", ".join(WHAT.values())
    raise ConversionError(f"{what} is none of: {known}. Its first names: {', '.join(names[:5])}")


def infer(kind: str, shapes: Shapes, values: Mapping[str, Any]) -> Any:
    """The configuration of `kind`: what the shapes tell, with `values` in the place of what they do not.

    Raises: ConversionError or ConfigError if it cannot be told or does not fit.
    """
    if kind == "perceptual":
        return kinds.parse_config(kind, {"backbone": perceptual.infer_backbone(shapes), **values})
    if kind == "swin_unet":
        given = values.get("denoiser", {})
        if not isinstance(given, Mapping):
            raise ConfigError(f"denoiser={given!r} must be a mapping of settings")
        if "image_size" in given:  # its type is checked before it is computed with
            parse(SwinUNetConfig, {"image_size": given["image_size"]}, "denoiser.")
        return kinds.parse_config(kind, {**values, "denoiser": to_dict(swin_unet.infer_config(shapes, **given))})
    return _MODULES[kind].infer_config(shapes, **values)


def table(kind: str, config: Any) -> Table:
    """The rules that convert `kind`."""
    if kind == "perceptual":
        return perceptual.TABLES[config.backbone]
    rules: Table = _MODULES[kind].TABLE
    return rules
