"""Configuration: plain mappings in, frozen dataclasses out. Every default and every cross-field check of the
networks, the diffusion and the sampler lives here, once (training's own is `vdiffsr_jax.training.config`).
"""

from vdiffsr_jax.config.model import (
    COLOR_FIXES,
    CoGUConfig,
    CSPAConfig,
    PriorConfig,
    ScheduleConfig,
    SharpConfig,
    VDiffSRConfig,
)
from vdiffsr_jax.config.networks import SwinUNetConfig, VARConfig, VARTokenizerConfig, VQGANConfig
from vdiffsr_jax.config.parsing import ConfigError, Dataclass, ExpectedError, check_choice, first_line, parse, to_dict

__all__ = [
    "COLOR_FIXES",
    "CSPAConfig",
    "CoGUConfig",
    "ConfigError",
    "Dataclass",
    "ExpectedError",
    "PriorConfig",
    "ScheduleConfig",
    "SharpConfig",
    "SwinUNetConfig",
    "VARConfig",
    "VARTokenizerConfig",
    "VDiffSRConfig",
    "VQGANConfig",
    "check_choice",
    "first_line",
    "parse",
    "to_dict",
]
