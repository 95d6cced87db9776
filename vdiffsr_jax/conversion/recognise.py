"""Which kind of network a state dict is, from its names."""

from __future__ import annotations

from collections.abc import Iterable

from vdiffsr_jax.conversion import clip_iqa, musiq, perceptual, swin_unet, var, var_tokenizer, vqgan
from vdiffsr_jax.conversion.rules import ConversionError, FileKind

# The first that fits counts: VAR's tokenizer has every name of a VQGAN and more.
KINDS: dict[str, FileKind] = {
    "var": var.KIND,
    "var_tokenizer": var_tokenizer.KIND,
    "vqgan": vqgan.KIND,
    "swin_unet": swin_unet.KIND,
    "clip_iqa": clip_iqa.KIND,
    "musiq": musiq.KIND,
    "perceptual": perceptual.KIND,
}


def kind_of(names: Iterable[str], what: str) -> str:
    """The kind of network that has these names.

    Raises: ConversionError with the first names if it is none that is known.
    """
    names = list(names)
    for kind, file in KINDS.items():
        if any(set(marks) <= set(names) for marks in file.marks):
            return kind
    if distance := perceptual.heads_of(names):
        raise ConversionError(f"{what} holds only the heads of {distance}: give it with --heads beside its backbone")
    known = ", ".join(file.what for file in KINDS.values())
    raise ConversionError(f"{what} is none of: {known}. Its first names: {', '.join(names[:5])}")
