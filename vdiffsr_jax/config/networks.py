"""Configurations of single networks; the defaults are the published sizes."""

from __future__ import annotations

import dataclasses
from typing import Any

from vdiffsr_jax.config.parsing import ConfigError, check_choice
from vdiffsr_jax.config.ranges import (
    Count,
    Counts,
    Fraction,
    Levels,
    PictureChannels,
    Positive,
    Weight,
    Whole,
)


def _groups(config: Any, name: str, channels: list[int]) -> None:
    groups = config.num_groups
    wrong = [c for c in channels if c % groups]
    if wrong:
        raise ConfigError(
            f"{type(config).__name__}.{name} gives {wrong[0]} channels; "
            f"GroupNorm needs a multiple of num_groups={groups}"
        )


def _mlp(config: Any, width: int) -> None:
    if int(width * config.mlp_ratio) < 1:
        raise ConfigError(f"{type(config).__name__}.mlp_ratio={config.mlp_ratio} leaves no channel of {width}")


def _autoencoder(config: Any) -> None:
    if config.num_groups:
        _groups(config, "ch", [config.ch * m for m in config.ch_mult])


@dataclasses.dataclass(frozen=True)
class VQGANConfig:
    """First stage: VQGAN that reduces by patch_size * 2^(len(ch_mult)-1); the defaults are the published VQ-f4.

    `num_groups` of every GroupNorm: with one or two channels a group, as 32 gives a narrow network, normalisation
    removes the mean colour of the image, and no training brings it back. Four channels and more keep it; 0 leaves all
    normalisation out. `patch_size`: patches of pixels enter and leave as channels, so that no convolution runs at the
    image's resolution. `attention`: over all positions of the deepest level. `num_codebooks`: a latent is cut into so
    many vectors, each moved to the nearest of the same `n_embed` codes.
    """

    ch: Count = 128
    ch_mult: Counts = (1, 2, 4)
    num_res_blocks: Count = 2
    n_embed: Count = 8192
    embed_dim: Count = 3
    z_channels: Count = 3
    in_channels: PictureChannels = 3
    out_channels: PictureChannels = 3
    num_groups: Whole = 32
    patch_size: Count = 1
    attention: bool = True
    num_codebooks: Count = 1

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel."""
        return int(self.patch_size * 2 ** (len(self.ch_mult) - 1))

    def __post_init__(self) -> None:
        _autoencoder(self)
        if self.embed_dim % self.num_codebooks:
            raise ConfigError(f"embed_dim={self.embed_dim} must divide by num_codebooks={self.num_codebooks}")


@dataclasses.dataclass(frozen=True)
class VARTokenizerConfig:
    """Multi-scale residual VQ-VAE of VAR; the defaults are the published `vae_ch160v4096z32`.

    `num_groups`, `patch_size`, `attention`: as for the first stage.
    """

    vocab_size: Count = 4096
    z_channels: Count = 32
    ch: Count = 160
    ch_mult: Counts = (1, 1, 2, 2, 4)
    num_res_blocks: Count = 2
    patch_nums: Levels = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    share_quant_resi: Count = 4
    quant_resi: Fraction = 0.5
    beta: Weight = 0.25
    num_groups: Whole = 32
    patch_size: Count = 1
    attention: bool = True

    @property
    def factor(self) -> int:
        """Image pixels per finest-level token."""
        return int(self.patch_size * 2 ** (len(self.ch_mult) - 1))

    @property
    def window_size(self) -> int:
        """Side of the image window in pixels: VAR's positions are absolute, so there is only one."""
        return self.factor * self.patch_nums[-1]

    def __post_init__(self) -> None:
        _autoencoder(self)


@dataclasses.dataclass(frozen=True)
class VARConfig:
    """VAR transformer; the defaults are the published depth 16.

    `folded`: the AdaLN projections are replaced by the constants they give for one class (inference only).
    `lora_rank` > 0 adds low-rank updates to qkv, proj, fc1 and fc2 of every block. `attention`: causal, a level sees
    itself and all coarser ones; full, every level sees every other, which reads images but cannot generate them.
    """

    depth: Count = 16
    width: Count = 1024
    num_heads: Count = 16
    mlp_ratio: Positive = 4.0
    num_classes: Whole = 1000
    shared_aln: bool = False
    attn_l2_norm: bool = True
    patch_nums: Levels = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    vocab_size: Count = 4096
    code_dim: Count = 32
    norm_eps: Positive = 1e-6
    lora_rank: Whole = 0
    folded: bool = False
    attention: str = "causal"

    @property
    def num_tokens(self) -> int:
        """Tokens of all levels, sum of p_k squared."""
        return sum(p * p for p in self.patch_nums)

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ConfigError(f"var.width={self.width} must divide by var.num_heads={self.num_heads}")
        _mlp(self, self.width)
        check_choice(self, "attention", ("causal", "full"))


@dataclasses.dataclass(frozen=True)
class SwinUNetConfig:
    """Denoiser of ResShift and SinSR: UNet with Swin layers; the defaults are the published size.

    `attention_resolutions` are feature sizes counted down from `image_size`. `in_channels` counts z_t and the
    concatenated LR together. `num_groups` of every GroupNorm, CoGU's and CSPA's too: as for the first stage.
    """

    image_size: Count = 64
    in_channels: Count = 6
    out_channels: Count = 3
    model_channels: Count = 160
    channel_mult: Counts = (1, 2, 2, 4)
    num_res_blocks: Counts = (2, 2, 2, 2)
    attention_resolutions: tuple[Count, ...] = (64, 32, 16, 8)
    num_head_channels: Count = 32
    swin_depth: Count = 2
    swin_embed_dim: Count = 192
    window_size: Count = 8
    mlp_ratio: Positive = 4.0
    num_groups: Count = 32

    def __post_init__(self) -> None:
        if len(self.num_res_blocks) != len(self.channel_mult):
            raise ConfigError(
                f"denoiser.num_res_blocks={self.num_res_blocks} needs one entry per level of "
                f"channel_mult={self.channel_mult}"
            )
        if self.swin_embed_dim % self.num_head_channels:
            raise ConfigError(
                f"denoiser.swin_embed_dim={self.swin_embed_dim} must divide by "
                f"num_head_channels={self.num_head_channels}"
            )
        _groups(self, "model_channels", [self.model_channels * m for m in self.channel_mult])
        _groups(self, "swin_embed_dim", [self.swin_embed_dim])
        _mlp(self, self.swin_embed_dim)
