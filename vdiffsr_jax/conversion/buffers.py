"""Buffers of the published state dicts, recomputed from the configuration: strict loading in PyTorch wants them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from vdiffsr_jax.config import SwinUNetConfig, VARConfig, VARTokenizerConfig
from vdiffsr_jax.models.swin_unet import swin_places
from vdiffsr_jax.ops.window import relative_position_index, shift_mask


def buffers(kind: str, config: Any) -> dict[str, np.ndarray]:
    """{PyTorch name: value} of every buffer that a network of `kind` has."""
    if kind == "var":
        return _var(config)
    if kind == "var_tokenizer":
        return _var_tokenizer(config)
    if kind == "swin_unet":
        return _swin_unet(config.denoiser)
    return {}


def _var(cfg: VARConfig) -> dict[str, np.ndarray]:
    level = np.repeat(np.arange(len(cfg.patch_nums)), [p * p for p in cfg.patch_nums])
    mask = np.where(level[:, None] >= level[None, :], 0.0, -np.inf).astype(np.float32)
    result: dict[str, np.ndarray] = {"lvl_1L": level[None].astype(np.int64), "attn_bias_for_masking": mask[None, None]}
    zero = np.zeros(cfg.width, np.float32)
    return result | {f"blocks.{i}.attn.zero_k_bias": zero for i in range(cfg.depth)}


def _var_tokenizer(cfg: VARTokenizerConfig) -> dict[str, np.ndarray]:
    # A statistic of training that no output depends on; training starts it at zero.
    return {"quantize.ema_vocab_hit_SV": np.zeros((len(cfg.patch_nums), cfg.vocab_size), np.float32)}


def _swin_unet(cfg: SwinUNetConfig) -> dict[str, np.ndarray]:
    result = {}
    for prefix, size in zip(_swin_names(cfg), [size for _, size in swin_places(cfg)], strict=True):
        # A map no larger than the window is one window, and is not shifted.
        window = min(cfg.window_size, size)
        for i in range(cfg.swin_depth):
            block = f"{prefix}.blocks.{i}"
            result[f"{block}.attn.relative_position_index"] = relative_position_index(window).astype(np.int64)
            if i % 2 and size > cfg.window_size:
                result[f"{block}.attn_mask"] = shift_mask(size, size, window, window // 2)
    return result


def _swin_names(cfg: SwinUNetConfig) -> list[str]:
    """Where the state dict has its Swin layers, in forward order."""
    attended = [cfg.image_size >> i in cfg.attention_resolutions for i in range(len(cfg.channel_mult))]
    # Down: the first convolution, then per level its blocks and, but for the last, a downsampling.
    starts = [1, *itertools.accumulate((n + 1 for n in cfg.num_res_blocks[:-1]), initial=1)][1:]
    down = [f"input_blocks.{i}.1" for i, has in zip(starts, attended, strict=True) if has]
    # Up, deepest level first: one block more per level, the upsampling inside the last of them.
    starts = [0, *itertools.accumulate(n + 1 for n in reversed(cfg.num_res_blocks[1:]))]
    up = [f"output_blocks.{i}.1" for i, has in zip(starts, reversed(attended), strict=True) if has]
    return [*down, "middle_block.1", *up]
