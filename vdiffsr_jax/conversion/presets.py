"""What shapes do not tell about the published files: the diffusion schedule, the levels of the tokenizer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdiffsr_jax.config import to_dict
from vdiffsr_jax.conversion import shards
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.conversion.var import PUBLISHED_PATCH_NUMS
from vdiffsr_jax.diffusion import schedule


@dataclasses.dataclass(frozen=True)
class Preset:
    """`values`: settings of the kind's configuration, as `--config` would give them. `files`: names, as a pattern."""

    kind: str
    files: str
    values: dict[str, Any]


def _denoiser(files: str, published: str) -> Preset:
    return Preset("swin_unet", files, {"schedule": to_dict(schedule.PUBLISHED[published])})


_256, _512 = ({"patch_nums": list(patch_nums)} for patch_nums in PUBLISHED_PATCH_NUMS)

PRESETS: dict[str, Preset] = {
    "sinsr": _denoiser(r"sinsr(_v[12])?", "sinsr"),
    "resshift_v1": _denoiser(r"resshift_realsrx4_s15_v1", "resshift_v1v2"),
    "resshift_v2": _denoiser(r"resshift_realsrx4_s15_v2", "resshift_v1v2"),
    "resshift_v3": _denoiser(r"resshift_realsrx4_s4_v3", "resshift_v3"),
    "resshift_bicsr": _denoiser(r"resshift_bicsrx4_s4", "resshift_v3"),
    "resshift_bicsr_s15": _denoiser(r"resshift_bicsrx4_s15|resshift_bicsr_opencv_s15", "resshift_bicsr_opencv_s15"),
    "vq_f4": Preset("vqgan", r"autoencoder_vq_f4|vq_f4", {}),
    "vae_256": Preset("var_tokenizer", r"vae_ch160v4096z32", _256),
    "vae_512": Preset("var_tokenizer", r"vae_ch160v4096z32_512", _512),
    **{f"var_d{depth}": Preset("var", rf"var_d{depth}", _256) for depth in (16, 20, 24, 30)},
    "var_d36": Preset("var", r"var_d36", _512),
    **{
        f"musiq_{data}": Preset("musiq", rf"(musiq_)?{data}_ckpt(-\w+)?", {"trained_on": data})
        for data in ("koniq", "spaq", "ava", "paq2piq")
    },
}

_UNTOLD = {
    "swin_unet": ("schedule", "the diffusion schedule it was trained with"),
    "var_tokenizer": ("patch_nums", "the side of every level"),
    "musiq": ("trained_on", "whose opinions it was trained on"),
}


def choose(kind: str, path: Path, name: str | None) -> tuple[str | None, dict[str, Any]]:
    """(preset's name, settings) for a file of `kind`: the one asked for, else the one whose file name this is.

    Raises: ConversionError for an unknown preset or one of another kind.
    """
    if name is not None:
        if name not in PRESETS:
            raise ConversionError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        if PRESETS[name].kind != kind:
            raise ConversionError(f"preset {name} is for {PRESETS[name].kind}, but {path} is a {kind}")
        return name, PRESETS[name].values
    for known, preset in PRESETS.items():
        if preset.kind == kind and re.fullmatch(preset.files, shards.stem(path), re.IGNORECASE):
            return known, preset.values
    return None, {}


def check_told(kind: str, path: Path, preset: str | None, given: Mapping[str, Any]) -> None:
    """Refuse to guess what neither shapes nor the file's name tell.

    Raises: ConversionError naming the presets that would tell it.
    """
    setting, meaning = _UNTOLD.get(kind, (None, None))
    if setting is None or preset is not None or setting in given:
        return
    fitting = [name for name, preset in PRESETS.items() if preset.kind == kind]
    raise ConversionError(
        f"{path}: neither the tensors nor the file's name tell {meaning}. "
        f"Give --preset (one of {', '.join(fitting)}) or {setting!r} in --config"
    )
