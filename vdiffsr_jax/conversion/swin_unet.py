r"""Published Swin UNets (ResShift v1, v2, v3, bicsr; SinSR v1, v2) to our tree: names, layouts, configuration.

Shapes do not tell: the diffusion schedule, whether the file is ResShift's or SinSR's, how `in_channels` splits into
latent and LR, the norms' epsilon (1e-5 in all of them) and the group count (32).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from vdiffsr_jax.config import ConfigError, SwinUNetConfig, parse, to_dict
from vdiffsr_jax.conversion.rules import ConversionError, Drop, FileKind, Rule, Shapes, Table
from vdiffsr_jax.conversion.torch_layers import CONV, CONV1X1, LINEAR, layer, norm
from vdiffsr_jax.models.kinds import DenoiserConfig


def _res(pattern: str, path: str) -> list[Rule]:
    return [
        *norm(rf"{pattern}\.in_layers\.0", f"{path}/norm1"),
        *layer(rf"{pattern}\.in_layers\.2", f"{path}/conv1", CONV),
        *layer(rf"{pattern}\.emb_layers\.1", f"{path}/emb", LINEAR),
        *norm(rf"{pattern}\.out_layers\.0", f"{path}/norm2"),
        *layer(rf"{pattern}\.out_layers\.3", f"{path}/conv2", CONV),
        *layer(rf"{pattern}\.skip_connection", f"{path}/skip", CONV1X1),
    ]


def _swin(pattern: str, path: str, group: int) -> list[Rule | Drop]:
    """Rules of one Swin layer; `group` is the number of the next capture group."""
    block, ours = rf"{pattern}\.blocks\.(\d+)", rf"{path}/blocks/\{group}"
    return [
        *layer(rf"{pattern}\.patch_embed\.proj", f"{path}/embed", CONV1X1),
        *layer(rf"{pattern}\.patch_unembed\.proj", f"{path}/unembed", CONV1X1),
        *norm(rf"{block}\.norm1", f"{ours}/norm1"),
        *norm(rf"{block}\.norm2", f"{ours}/norm2"),
        *layer(rf"{block}\.attn\.qkv", f"{ours}/attn/qkv", LINEAR),
        *layer(rf"{block}\.attn\.proj", f"{ours}/attn/proj", LINEAR),
        Rule(rf"{block}\.attn\.relative_position_bias_table", f"{ours}/attn/bias_table"),
        *layer(rf"{block}\.mlp\.fc1", f"{ours}/fc1", CONV1X1),
        *layer(rf"{block}\.mlp\.fc2", f"{ours}/fc2", CONV1X1),
        Drop(rf"{block}\.attn\.relative_position_index", "follows from the window size"),
        Drop(rf"{block}\.attn_mask", "follows from the map's size; an averaged (EMA) file holds inexact values"),
    ]


TABLE: Table = [
    *layer(r"time_embed\.0", "time_embed/fc1", LINEAR),
    *layer(r"time_embed\.2", "time_embed/fc2", LINEAR),
    *layer(r"input_blocks\.(0)\.0", r"input_blocks/\1", CONV),
    *layer(r"input_blocks\.(\d+)\.0\.op", r"input_blocks/\1", CONV),
    *_res(r"(input|output)_blocks\.(\d+)\.0", r"\1_blocks/\2/res"),
    *_swin(r"(input|output)_blocks\.(\d+)\.1", r"\1_blocks/\2/swin", group=3),
    *layer(r"output_blocks\.(\d+)\.[12]\.conv", r"output_blocks/\1/upsample/conv", CONV),
    *_res(r"middle_block\.0", "middle/res"),
    *_swin(r"middle_block\.1", "middle/swin", group=1),
    *_res(r"middle_block\.2", "middle_res"),
    *norm(r"out\.0", "norm_out"),
    *layer(r"out\.2", "conv_out", CONV),
]


def infer_config(shapes: Shapes, /, **overrides: Any) -> SwinUNetConfig:
    """Read the whole configuration off the names and shapes of a state dict.

    The nominal `image_size` comes from the shift masks; where no layer shifts, from the windows, which are then the
    maps' own sizes. A window at least as large as every map is reported as the largest one used: the network is equal.

    Args: shapes: {PyTorch name: shape}, buffers included. overrides: fields of SwinUNetConfig that replace what was
        read; `image_size` is needed if the buffers were stripped from the file or `swin_depth` is 1.
    Raises: ConversionError if a needed name is absent or `image_size` cannot be told; ConfigError as the config does.
    """
    try:
        return parse(SwinUNetConfig, {**_read(shapes, overrides.get("image_size")), **overrides})
    except KeyError as error:
        raise ConversionError(f"not a Swin UNet of ResShift or SinSR: {error.args[0]} is missing") from None


def _read(shapes: Shapes, image_size: int | None) -> dict[str, Any]:
    model_channels = shapes["time_embed.0.weight"][1]
    widths: list[int] = []
    num_res_blocks: list[int] = []
    layers: dict[int, str] = {}  # level -> prefix of its Swin layer
    level = 0
    for i in itertools.count(1):
        if f"input_blocks.{i}.0.op.weight" in shapes:
            level += 1
            continue
        kernel = f"input_blocks.{i}.0.in_layers.2.weight"
        if kernel not in shapes:
            break
        if level == len(widths):
            widths.append(shapes[kernel][0])
            num_res_blocks.append(0)
            if f"input_blocks.{i}.1.patch_embed.proj.weight" in shapes:
                layers[level] = f"input_blocks.{i}.1"
        num_res_blocks[level] += 1
    middle = "middle_block.1"
    embed_dim = shapes[f"{middle}.patch_embed.proj.weight"][0]
    num_heads = shapes[f"{middle}.blocks.0.attn.relative_position_bias_table"][1]
    hidden = shapes[f"{middle}.blocks.0.mlp.fc1.weight"][0]
    depth = sum(f"{middle}.blocks.{i}.norm1.weight" in shapes for i in range(1000))
    windows = {lev: _window(shapes, prefix) for lev, prefix in {**layers, len(widths) - 1: middle}.items()}
    if image_size is None:
        image_size = _image_size(shapes, layers, windows, depth)
    ragged = [width for width in widths if width % model_channels]
    if ragged:
        raise ConversionError(f"a level has {ragged[0]} channels, not a multiple of model_channels={model_channels}")
    return {
        "image_size": image_size,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "model_channels": model_channels,
        "channel_mult": [width // model_channels for width in widths],
        "num_res_blocks": num_res_blocks,
        "attention_resolutions": [image_size >> lev for lev in layers],
        "num_head_channels": embed_dim // num_heads,
        "swin_depth": depth,
        "swin_embed_dim": embed_dim,
        "window_size": max(windows.values()),
        "mlp_ratio": hidden / embed_dim,
    }


def _window(shapes: Shapes, prefix: str) -> int:
    return (math.isqrt(shapes[f"{prefix}.blocks.0.attn.relative_position_bias_table"][0]) + 1) // 2


def _image_size(shapes: Shapes, layers: Mapping[int, str], windows: Mapping[int, int], depth: int) -> int:
    if depth == 1 or "middle_block.1.blocks.0.attn.relative_position_index" not in shapes:
        raise ConversionError("shapes alone do not tell image_size (no shift masks in this file): give it")
    for level, prefix in layers.items():
        mask = shapes.get(f"{prefix}.blocks.1.attn_mask")
        if mask is not None:
            return (math.isqrt(mask[0]) * windows[level]) << level
    level, window = max(windows.items())
    return window << level


def infer_denoiser(shapes: Shapes, /, **overrides: Any) -> DenoiserConfig:
    """As `infer_config`, with the schedule that shapes do not tell; `overrides` are DenoiserConfig fields."""
    given = overrides.get("denoiser", {})
    if not isinstance(given, Mapping):
        raise ConfigError(f"denoiser={given!r} must be a mapping of settings")
    if "image_size" in given:  # its type is checked before it is computed with
        parse(SwinUNetConfig, {"image_size": given["image_size"]}, "denoiser.")
    return parse(DenoiserConfig, {**overrides, "denoiser": to_dict(infer_config(shapes, **given))})


MARKS = ("time_embed.0.weight", "input_blocks.0.0.weight")
KIND = FileKind("Swin UNet of ResShift or SinSR", (MARKS,), infer_denoiser, lambda config: TABLE)
