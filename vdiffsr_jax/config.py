"""Configuration: plain mappings in, frozen dataclasses out. Every default and every cross-field check of the
networks, the diffusion and the sampler lives here, once (training's own is `vdiffsr_jax.training.config`).
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


COLOR_FIXES = ("none", "wavelet", "adain")


class ConfigError(ValueError):
    """A configuration is wrong; the message names the field and says what to do."""


def check_choice(config: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless the field holds one of the allowed values."""
    if getattr(config, name) not in allowed:
        raise ConfigError(f"{name}={getattr(config, name)!r} must be one of {', '.join(allowed)}")


def _groups(config: Any, name: str, channels: list[int]) -> None:
    groups = config.num_groups
    if groups < 1:
        raise ConfigError(f"{type(config).__name__}.num_groups={groups} must be at least 1")
    wrong = [c for c in channels if c % groups]
    if wrong:
        raise ConfigError(
            f"{type(config).__name__}.{name} gives {wrong[0]} channels; "
            f"GroupNorm needs a multiple of num_groups={groups}"
        )


def _autoencoder(config: Any) -> None:
    if config.patch_size < 1:
        raise ConfigError(f"{type(config).__name__}.patch_size={config.patch_size} must be at least 1")
    if config.num_groups:
        _groups(config, "ch", [config.ch * m for m in config.ch_mult])


def _increasing(config: Any, name: str, values: tuple[int, ...]) -> None:
    if not values or any(b <= a for a, b in itertools.pairwise(values)):
        raise ConfigError(f"{type(config).__name__}.{name}={values} must increase")


@dataclasses.dataclass(frozen=True)
class VQGANConfig:
    """First stage: VQGAN that reduces by patch_size * 2^(len(ch_mult)-1); the defaults are the published VQ-f4.

    `num_groups` of every GroupNorm: with one or two channels a group, as 32 gives a narrow network, normalisation
    removes the mean colour of the image, and no training brings it back. Four channels and more keep it; 0 leaves all
    normalisation out. `patch_size`: patches of pixels enter and leave as channels, so that no convolution runs at the
    image's resolution. `attention`: over all positions of the deepest level. `num_codebooks`: a latent is cut into so
    many vectors, each moved to the nearest of the same `n_embed` codes.
    """

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    n_embed: int = 8192
    embed_dim: int = 3
    z_channels: int = 3
    in_channels: int = 3
    out_channels: int = 3
    num_groups: int = 32
    patch_size: int = 1
    attention: bool = True
    num_codebooks: int = 1

    @property
    def factor(self) -> int:
        """Image pixels per latent pixel."""
        return self.patch_size * 2 ** (len(self.ch_mult) - 1)

    def __post_init__(self) -> None:
        _autoencoder(self)
        if self.embed_dim % self.num_codebooks:
            raise ConfigError(f"embed_dim={self.embed_dim} must divide by num_codebooks={self.num_codebooks}")


@dataclasses.dataclass(frozen=True)
class VARTokenizerConfig:
    """Multi-scale residual VQ-VAE of VAR; the defaults are the published `vae_ch160v4096z32`.

    `num_groups`, `patch_size`, `attention`: as for the first stage.
    """

    vocab_size: int = 4096
    z_channels: int = 32
    ch: int = 160
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    share_quant_resi: int = 4
    quant_resi: float = 0.5
    beta: float = 0.25
    num_groups: int = 32
    patch_size: int = 1
    attention: bool = True

    @property
    def factor(self) -> int:
        """Image pixels per finest-level token."""
        return self.patch_size * 2 ** (len(self.ch_mult) - 1)

    @property
    def window_size(self) -> int:
        """Side of the image window in pixels: VAR's positions are absolute, so there is only one."""
        return self.factor * self.patch_nums[-1]

    def __post_init__(self) -> None:
        _autoencoder(self)
        _increasing(self, "patch_nums", self.patch_nums)


@dataclasses.dataclass(frozen=True)
class VARConfig:
    """VAR transformer; the defaults are the published depth 16.

    `folded`: the AdaLN projections are replaced by the constants they give for one class (inference only).
    `lora_rank` > 0 adds low-rank updates to qkv, proj, fc1 and fc2 of every block. `attention`: causal, a level sees
    itself and all coarser ones; full, every level sees every other, which reads images but cannot generate them.
    """

    depth: int = 16
    width: int = 1024
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_classes: int = 1000
    shared_aln: bool = False
    attn_l2_norm: bool = True
    patch_nums: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    vocab_size: int = 4096
    code_dim: int = 32
    norm_eps: float = 1e-6
    lora_rank: int = 0
    folded: bool = False
    attention: str = "causal"

    @property
    def num_tokens(self) -> int:
        """Tokens of all levels, sum of p_k squared."""
        return sum(p * p for p in self.patch_nums)

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ConfigError(f"var.width={self.width} must divide by var.num_heads={self.num_heads}")
        check_choice(self, "attention", ("causal", "full"))
        _increasing(self, "patch_nums", self.patch_nums)


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """The prior: its kind, where VAR's hidden states are read out, and what of it is trained.

    `kind`: var (PyramidVAR), codes (the tokenizer's own codes, without VAR), or module:Class (`models.prior`).
    `taps` are 1-based block numbers; empty means four, evenly spaced, the last at the top (design section 5).
    `mode`: teacher_forced, or one of two controls: shuffled (another image's prior), random_weights. `attention`: what
    VAR's levels see of each other, whatever VAR was trained with (VARestorer, once adapted: full).
    """

    kind: str = "var"
    tokenizer: VARTokenizerConfig = VARTokenizerConfig()
    var: VARConfig = VARConfig()
    taps: tuple[int, ...] = ()
    dim: int = 256
    train: str = "lora"
    lora_rank: int = 16
    mode: str = "teacher_forced"
    attention: str = "causal"

    @property
    def tap_layers(self) -> tuple[int, ...]:
        """The tapped block numbers, 1-based, ascending."""
        if self.taps:
            return self.taps
        num_taps = min(4, self.var.depth)
        return tuple(round(self.var.depth * (i + 1) / num_taps) for i in range(num_taps))

    def __post_init__(self) -> None:
        check_choice(self, "train", ("none", "adapter", "lora", "full"))
        check_choice(self, "mode", ("teacher_forced", "shuffled", "random_weights"))
        check_choice(self, "attention", ("causal", "full"))
        if self.train == "lora" and not self.lora_rank:
            raise ConfigError("prior.train=lora needs prior.lora_rank of at least 1; or choose adapter, full or none")
        if self.kind != "var":  # only PyramidVAR needs a VAR that fits
            return
        if self.taps:
            _increasing(self, "taps", self.taps)
            if self.taps[-1] > self.var.depth or self.taps[0] < 1:
                raise ConfigError(f"prior.taps={self.taps} must lie in 1..var.depth={self.var.depth}")
        for name, var, tok in (
            ("patch_nums", self.var.patch_nums, self.tokenizer.patch_nums),
            ("vocab_size", self.var.vocab_size, self.tokenizer.vocab_size),
            ("code_dim", self.var.code_dim, self.tokenizer.z_channels),
        ):
            if var != tok:
                raise ConfigError(f"VAR and its tokenizer disagree: {name} {var} against {tok}")


@dataclasses.dataclass(frozen=True)
class SwinUNetConfig:
    """Denoiser of ResShift and SinSR: UNet with Swin layers; the defaults are the published size.

    `attention_resolutions` are feature sizes counted down from `image_size`. `in_channels` counts z_t and the
    concatenated LR together. `num_groups` of every GroupNorm, CoGU's and CSPA's too: as for the first stage.
    """

    image_size: int = 64
    in_channels: int = 6
    out_channels: int = 3
    model_channels: int = 160
    channel_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: tuple[int, ...] = (2, 2, 2, 2)
    attention_resolutions: tuple[int, ...] = (64, 32, 16, 8)
    num_head_channels: int = 32
    swin_depth: int = 2
    swin_embed_dim: int = 192
    window_size: int = 8
    mlp_ratio: float = 4.0
    num_groups: int = 32

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


@dataclasses.dataclass(frozen=True)
class CoGUConfig:
    """Condition-Gated Unit (design section 6): D = min(C, max_dim)."""

    enabled: bool = True
    max_dim: int = 256


@dataclasses.dataclass(frozen=True)
class CSPAConfig:
    """Cross-Scale Prior-Aligned Attention (design section 7). `levels` empty means every level."""

    same: bool = True
    cross: bool = True
    dim: int = 192
    head_dim: int = 32
    window_size: int = 8
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.dim % self.head_dim:
            raise ConfigError(f"cspa.dim={self.dim} must divide by cspa.head_dim={self.head_dim}")
        if self.head_dim % 4:
            raise ConfigError(f"cspa.head_dim={self.head_dim} must divide by 4 (2-D rotary encoding)")


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Residual-shifting schedule: a schedule is data (design section 4).

    `min_noise_level` is sqrt(eta_1) * kappa; `cap_sqrt_eta_1` adds the minimum with sqrt(0.001).
    """

    num_steps: int = 15
    kappa: float = 2.0
    power: float = 0.3
    min_noise_level: float = 0.04
    sqrt_eta_end: float = 0.99
    cap_sqrt_eta_1: bool = True

    def __post_init__(self) -> None:
        if self.num_steps < 2:
            raise ConfigError(f"schedule.num_steps={self.num_steps} must be at least 2")


@dataclasses.dataclass(frozen=True)
class VDiffSRConfig:
    """The assembled model. `prior=None` is a plain ResShift or SinSR: no VAR, no CoGU, no CSPA.

    `color_fix`: the colour correction that its results want, one of COLOR_FIXES, unless the person who samples says
    otherwise.
    """

    first_stage: VQGANConfig = VQGANConfig()
    denoiser: SwinUNetConfig = SwinUNetConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    prior: PriorConfig | None = PriorConfig()
    cogu: CoGUConfig = CoGUConfig()
    cspa: CSPAConfig = CSPAConfig()
    scale: int = 4
    color_fix: str = "none"

    @property
    def tile_size(self) -> int:
        """Side of one tile in LR pixels; with a prior, exactly one VAR window."""
        return self.denoiser.image_size

    def __post_init__(self) -> None:
        check_choice(self, "color_fix", COLOR_FIXES)
        if self.first_stage.factor != self.scale:
            raise ConfigError(
                f"the first stage reduces by {self.first_stage.factor} but scale={self.scale}: LR must have latent size"
            )
        latent = self.first_stage.embed_dim
        if self.denoiser.in_channels != latent + 3 or self.denoiser.out_channels != latent:
            raise ConfigError(
                f"denoiser channels {self.denoiser.in_channels}->{self.denoiser.out_channels} must be "
                f"{latent + 3}->{latent} for first_stage.embed_dim={latent}"
            )
        if self.prior is not None:
            window = self.prior.tokenizer.window_size
            if window != self.tile_size * self.scale:
                raise ConfigError(
                    f"VAR's window is {window} pixels but a tile is denoiser.image_size * scale = "
                    f"{self.tile_size * self.scale}; VAR windows are never resized"
                )
            num_levels = len(self.prior.tokenizer.patch_nums)
            if any(not 0 <= level < num_levels for level in self.cspa.levels):
                raise ConfigError(f"cspa.levels={self.cspa.levels} must be prior levels, 0..{num_levels - 1}")


def parse(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Build the frozen dataclass `cls` from a mapping (dict, ConfigDict or JSON object).

    Lists become tuples, ints become floats where a float is declared, nested mappings become nested dataclasses.

    Raises: ConfigError naming the dotted field for an unknown name (with the nearest known one), a wrong type or a
        failed check.
    """
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    kwargs = {}
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
            raise ConfigError(f"unknown setting {path + name!r}{hint}")
        kwargs[name] = _coerce(hints[name], value, f"{path}{name}")
    try:
        return cls(**kwargs)
    except TypeError as error:
        raise ConfigError(f"{path.rstrip('.') or cls.__name__}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Inverse of `parse`: plain JSON-ready values, tuples as lists."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _coerce(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (hint,) = (o for o in options if o is not type(None))
        return _coerce(hint, value, path)
    if dataclasses.is_dataclass(hint):
        if dataclasses.is_dataclass(value):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}={value!r} must be a mapping of {hint.__name__} settings")  # type: ignore[union-attr]
        return parse(hint, value, f"{path}.")  # type: ignore[arg-type]
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{path}={value!r} must be a list")
        item = typing.get_args(hint)[0]
        return tuple(_coerce(item, v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{path}={value!r} must be of type {hint.__name__}")
    return value
