"""The way back: a checkpoint's network as .safetensors under its original PyTorch names, buffers recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vdiffsr_jax.conversion import recognise
from vdiffsr_jax.conversion.buffers import buffers
from vdiffsr_jax.conversion.convert import check_finite
from vdiffsr_jax.conversion.original_names import original_names
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.models import kinds, pyramid_var
from vdiffsr_jax.models.build import Params, flatten
from vdiffsr_jax.models.var_fold import merge_lora
from vdiffsr_jax.weights import safetensors_file
from vdiffsr_jax.weights.checkpoint import load_lazily, read_config
from vdiffsr_jax.weights.lazy_array import LazyArray


def to_torch(
    directory: Path, output: Path, *, item: str | None = None, dtype: Any = None, allow_nonfinite: bool = False
) -> list[str]:
    """Write one network of a checkpoint, one tensor at a time; returns what was left out, in sentences.

    Args: item: which network; needed where there are several. dtype: of the parameters, as stored by default.
        allow_nonfinite: accept NaN and infinity of the cast.
    Raises: ConversionError if the network has no original names, or `dtype` cannot hold its numbers; CheckpointError.
    """
    kind, config, _ = read_config(directory)
    known = kinds.item_names(kind, config)
    if item is None:
        if len(known) > 1:
            raise ConversionError(f"{directory} holds {', '.join(known)}: say which with --part")
        item = known[0]
    if item not in known:
        raise ConversionError(f"{directory} ({kind}) holds {', '.join(known)}, no {item}")
    params = load_lazily(directory, item)
    added: dict[str, LazyArray] = {}
    if item == "sharp":
        raise ConversionError("sharp is what the sharp end differs by, no network; the others are of the faithful end")
    if item == "pvar":
        if config.prior.kind != "var":
            raise ConversionError(f"a prior of kind {config.prior.kind} has no VAR in it to write")
        added, params, left_out = _adapter(params)
        kind, config = "var", pyramid_var.trunk_config(config.prior)
        if config.folded:
            raise ConversionError("this VAR was folded to one class: the original has no names for it")
    else:
        kind, config, params, left_out = _as_published(item, config, params)

    flat = flatten(params)
    names = original_names(recognise.KINDS[kind].table(config), flat)
    tensors = {name: flat[path].laid_out(op.inverse) for name, (path, op) in names.items()} | added
    if dtype is not None:
        tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
        if not allow_nonfinite:
            check_finite(tensors, f"{directory} ({item})")
    tensors |= {name: LazyArray.of(array) for name, array in buffers(kind, config).items()}
    safetensors_file.write(output, tensors)
    return left_out


def _as_published(item: str, config: Any, params: Params) -> tuple[str, Any, Params, list[str]]:
    """The published network inside one of ours."""
    if item == "first_stage":
        return "vqgan", config.first_stage, params, []
    if item == "denoiser":
        added = [name for name in params if name != "unet"]
        left_out = [f"left out: {', '.join(added)}, which the original does not have"] if added else []
        return "swin_unet", kinds.DenoiserConfig(config.denoiser, config.schedule), params["unet"], left_out
    if item in ("perceptual", "musiq", "clip_iqa"):
        raise ConversionError(f"{item}: networks of metrics are not written under PyTorch's names")
    if item == "var" and (config.folded or config.lora_rank):
        raise ConversionError("this VAR was folded or has LoRA updates: the original has no names for them")
    return item, config, params, []


def _adapter(params: Params) -> tuple[dict[str, LazyArray], Params, list[str]]:
    """(the read-out under its own names, VAR's trunk with LoRA merged, what was left out) of a prior."""
    own = {name: part for name, part in params.items() if name not in ("tokenizer", "var")}
    added = {path.replace("/", "."): array for path, array in flatten(own).items()}
    left_out = [
        "left out: the tokenizer, which is frozen: it is the published one",
        "of VAR only the blocks that the prior reads are there, LoRA merged into them, and no head",
        f"under its own names and in this project's layout: {', '.join(own)}",
    ]
    return added, merge_lora(params["var"], _merged), left_out


def _merged(kernel: LazyArray, a: LazyArray, b: LazyArray) -> LazyArray:
    """W + A B, when it is read."""

    def read() -> np.ndarray:
        update = a.read().astype(np.float32) @ b.read().astype(np.float32)
        whole: np.ndarray = kernel.read().astype(np.float32) + update
        return whole.astype(kernel.dtype)

    return LazyArray(kernel.shape, kernel.dtype, read)
