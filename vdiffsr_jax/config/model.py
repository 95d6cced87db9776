"""Configuration of the assembled model: the prior, what it guides, the schedule, and how they fit together."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

from vdiffsr_jax.config.networks import SwinUNetConfig, VARConfig, VARTokenizerConfig, VQGANConfig
from vdiffsr_jax.config.parsing import ConfigError, check_choice
from vdiffsr_jax.config.ranges import INCREASING, Count, Fraction, Positive, Range, Whole, at_least

COLOR_FIXES = ("none", "wavelet", "adain")


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """The prior: its kind, where VAR's hidden states are read out, and what of it is trained.

    `kind`: var (PyramidVAR), codes (the tokenizer's own codes, without VAR), or module:Class (`models.prior`).
    `taps` are 1-based block numbers; empty means four, evenly spaced, the last at the top (design section 5).
    `mode`: teacher_forced, or one of two controls: random_weights, and shuffled (the next photo's prior in sampling,
    another sample's in training). `attention`: what VAR's levels see of each other, whatever VAR was trained with
    (VARestorer, once adapted: full).
    """

    kind: str = "var"
    tokenizer: VARTokenizerConfig = VARTokenizerConfig()
    var: VARConfig = VARConfig()
    taps: Annotated[tuple[Count, ...], INCREASING] = ()
    dim: Count = 256
    train: str = "lora"
    lora_rank: Whole = 16
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
        if self.taps and self.taps[-1] > self.var.depth:
            raise ConfigError(f"prior.taps={self.taps} must lie in 1..var.depth={self.var.depth}")
        for name, var, tok in (
            ("patch_nums", self.var.patch_nums, self.tokenizer.patch_nums),
            ("vocab_size", self.var.vocab_size, self.tokenizer.vocab_size),
            ("code_dim", self.var.code_dim, self.tokenizer.z_channels),
        ):
            if var != tok:
                raise ConfigError(f"VAR and its tokenizer disagree: {name} {var} against {tok}")


@dataclasses.dataclass(frozen=True)
class CoGUConfig:
    """Condition-Gated Unit (design section 6): D = min(C, max_dim)."""

    enabled: bool = True
    max_dim: Count = 256


@dataclasses.dataclass(frozen=True)
class CSPAConfig:
    """Cross-Scale Prior-Aligned Attention (design section 7). `levels` empty means every level."""

    same: bool = True
    cross: bool = True
    dim: Count = 192
    head_dim: Annotated[Count, Range("divide by 4 (2-D rotary encoding)", lambda value: value % 4 == 0)] = 32
    window_size: Count = 8
    levels: Annotated[tuple[Whole, ...], INCREASING] = ()

    def __post_init__(self) -> None:
        if self.dim % self.head_dim:
            raise ConfigError(f"cspa.dim={self.dim} must divide by cspa.head_dim={self.head_dim}")


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Residual-shifting schedule: a schedule is data (design section 4).

    `min_noise_level` is sqrt(eta_1) * kappa; `cap_sqrt_eta_1` adds the minimum with sqrt(0.001).
    """

    num_steps: Annotated[int, at_least(2)] = 15
    kappa: Positive = 2.0
    power: Positive = 0.3
    min_noise_level: Positive = 0.04
    sqrt_eta_end: Positive = 0.99
    cap_sqrt_eta_1: bool = True

    @property
    def sqrt_eta_1(self) -> float:
        """How far the first step has shifted."""
        first = min(self.min_noise_level / self.kappa, self.min_noise_level)
        return min(first, math.sqrt(0.001)) if self.cap_sqrt_eta_1 else first

    def __post_init__(self) -> None:
        if not self.sqrt_eta_1 < self.sqrt_eta_end <= 1:
            raise ConfigError(
                f"schedule.sqrt_eta_end={self.sqrt_eta_end} must lie above the first step's, {self.sqrt_eta_1:.3g} "
                "(of min_noise_level and kappa), and at most at 1"
            )


@dataclasses.dataclass(frozen=True)
class SharpConfig:
    """A second, sharper end of a model (`models.fidelity`): which `networks` have one, and the default `fidelity`.

    `exact`: the second end is kept as it is, not as a difference in 4 bits.
    """

    fidelity: Fraction = 0.5
    networks: tuple[str, ...] = ("denoiser",)
    exact: bool = False

    def __post_init__(self) -> None:
        known = ("first_stage", "denoiser", "pvar")
        if not self.networks or any(name not in known for name in self.networks):
            raise ConfigError(f"sharp.networks={self.networks} must be some of {', '.join(known)}")


@dataclasses.dataclass(frozen=True)
class VDiffSRConfig:
    """The assembled model. `prior=None` is a plain ResShift or SinSR: no VAR, no CoGU, no CSPA.

    `color_fix`: the colour correction that its results want, one of COLOR_FIXES, unless the person who samples says
    otherwise. `sharp`: of a model with two ends.
    """

    first_stage: VQGANConfig = VQGANConfig()
    denoiser: SwinUNetConfig = SwinUNetConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    prior: PriorConfig | None = PriorConfig()
    cogu: CoGUConfig = CoGUConfig()
    cspa: CSPAConfig = CSPAConfig()
    scale: Count = 4
    color_fix: str = "none"
    sharp: SharpConfig | None = None

    @property
    def tile_size(self) -> int:
        """Side of one tile in LR pixels; with a prior, exactly one VAR window."""
        return self.denoiser.image_size

    @property
    def is_shuffled(self) -> bool:
        """Whether it is the control prior.mode=shuffled, which reads another photo's prior."""
        return self.prior is not None and self.prior.mode == "shuffled"

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
        if self.sharp is not None and "pvar" in self.sharp.networks:
            prior = self.prior
            learns = prior is not None and (prior.train != "none" or prior.lora_rank)
            if prior is None or learns or (prior.kind == "var" and not prior.var.folded):
                raise ConfigError("sharp.networks names pvar: there must be a prior, in inference form (sampling.pack)")
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
