"""Where the photos are, how crops are drawn, how they are degraded: every setting of the data and its checks."""

from __future__ import annotations

import dataclasses
from typing import Any

from vdiffsr_jax.config import ConfigError, check_choice

RESIZES = ("area", "bilinear", "bicubic", "antialiased_bilinear", "antialiased_bicubic")
Range = tuple[float, float]


def _range(config: Any, name: str, low: float, high: float) -> None:
    value = getattr(config, name)
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ConfigError(f"{type(config).__name__}.{name}={value} must be two rising numbers in {low:g}..{high:g}")


def _probability(config: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{type(config).__name__}.{name}={getattr(config, name)} must lie in 0..1")


def _distribution(config: Any, name: str, count: int) -> None:
    value = getattr(config, name)
    if len(value) != count or min(value) < 0 or abs(sum(value) - 1) > 1e-6:
        raise ConfigError(f"{type(config).__name__}.{name}={value} must be {count} probabilities that sum to 1")


@dataclasses.dataclass(frozen=True)
class BlurConfig:
    """Random blur: a sinc with `sinc_prob`, else Gaussian, generalised or plateau, each iso- or anisotropic.

    `shape_prob` follows kernels.SHAPES. `sigma` is in pixels; the defaults are ResShift's first stage.
    """

    prob: float = 1.0
    sizes: tuple[int, ...] = (3, 5, 7, 9, 11, 13, 15, 17, 19)
    sigma: Range = (0.2, 3.0)
    sinc_prob: float = 0.1
    shape_prob: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)

    def __post_init__(self) -> None:
        _probability(self, "prob", "sinc_prob")
        _distribution(self, "shape_prob", 6)
        _range(self, "sigma", 1e-3, 50)
        _range(self, "beta_generalized", 0.05, 20)
        _range(self, "beta_plateau", 0.05, 20)
        if not self.sizes or any(size < 1 or size % 2 == 0 for size in self.sizes):
            raise ConfigError(f"BlurConfig.sizes={self.sizes} must be odd numbers of pixels")


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """Blur, resize, noise, JPEG, in this order; skipped as a whole with 1 - `prob`.

    `resize_prob`: up, down, keep; `resize` the lowest and highest factor, of the HR size or (`of_lr`) of the LR size.
    Noise is Gaussian (`gaussian`, standard deviation in grey levels) or else Poisson (`poisson`, a factor), the same
    in the three channels with `gray_prob`. `jpeg`: lowest and highest quality; empty leaves JPEG out.
    """

    prob: float = 1.0
    blur: BlurConfig = BlurConfig()
    resize_prob: tuple[float, ...] = (0.2, 0.7, 0.1)
    resize: Range = (0.15, 1.5)
    of_lr: bool = False
    gaussian_prob: float = 0.5
    gaussian: Range = (1.0, 30.0)
    poisson: Range = (0.05, 3.0)
    gray_prob: float = 0.4
    jpeg: tuple[int, ...] = (30, 95)

    def __post_init__(self) -> None:
        _probability(self, "prob", "gaussian_prob", "gray_prob")
        _distribution(self, "resize_prob", 3)
        _range(self, "resize", 0.01, 8)
        _range(self, "gaussian", 0, 255)
        _range(self, "poisson", 0, 100)
        if self.jpeg:
            _range(self, "jpeg", 1, 100)


@dataclasses.dataclass(frozen=True)
class DegradationConfig:
    """Stages, then [resize to LR, sinc with `sinc_prob`] and JPEG in either order (JPEG last with `jpeg_last_prob`).

    `resizes`: the interpolations drawn from, each time. `sharpen`: unsharp-mask the HR image before it is degraded.
    `margin`: HR pixels degraded beyond the crop and cut off again, so that blur and JPEG's grid do not begin at its
    edge. The defaults are ResShift's realsr_swinunet_realesrgan256 (stage two in half of the samples).
    """

    stages: tuple[StageConfig, ...] = (
        StageConfig(),
        StageConfig(
            prob=0.5,
            blur=BlurConfig(prob=0.8, sizes=(3, 5, 7, 9, 11, 13), sigma=(0.2, 1.5)),
            resize_prob=(0.3, 0.4, 0.3),
            resize=(0.3, 1.2),
            of_lr=True,
            gaussian=(1.0, 25.0),
            poisson=(0.05, 2.5),
            jpeg=(),
        ),
    )
    resizes: tuple[str, ...] = ("area", "bilinear", "bicubic")
    sinc_prob: float = 0.8
    sinc_sizes: tuple[int, ...] = (3, 5, 7, 9, 11, 13)
    jpeg: tuple[int, ...] = (30, 95)
    jpeg_last_prob: float = 0.5
    sharpen: bool = False
    margin: int = 0

    def __post_init__(self) -> None:
        _probability(self, "sinc_prob", "jpeg_last_prob")
        if self.jpeg:
            _range(self, "jpeg", 1, 100)
        unknown = [mode for mode in self.resizes if mode not in RESIZES]
        if unknown or not self.resizes:
            raise ConfigError(f"DegradationConfig.resizes={self.resizes} must name some of {', '.join(RESIZES)}")
        if self.margin < 0:
            raise ConfigError(f"DegradationConfig.margin={self.margin} must be at least 0")


def _single(sigma: Range, noise: Range, jpeg: tuple[int, ...], *, anisotropic: float = 0.0) -> StageConfig:
    blur = BlurConfig(sizes=(15,), sigma=sigma, sinc_prob=0.0, shape_prob=(1 - anisotropic, anisotropic, 0, 0, 0, 0))
    return StageConfig(blur=blur, resize_prob=(0.0, 0.0, 1.0), of_lr=True, gaussian_prob=1.0, gaussian=noise, jpeg=jpeg)


# mild: one stage, for small models. fixed: the held-out check's, nothing random but the noise.
PRESETS = {
    "realesrgan": DegradationConfig(),
    "mild": DegradationConfig(
        stages=(_single((0.5, 2.2), (0.0, 8.0), (50, 95), anisotropic=0.3),),
        resizes=("antialiased_bicubic", "antialiased_bilinear", "area"),
        sinc_prob=0.0,
        jpeg=(),
        margin=32,
    ),
    "fixed": DegradationConfig(
        stages=(_single((1.5, 1.5), (5.0, 5.0), (60, 60)),),
        resizes=("antialiased_bicubic",),
        sinc_prob=0.0,
        jpeg=(),
    ),
    "bicubic": DegradationConfig(stages=(), resizes=("antialiased_bicubic",), sinc_prob=0.0, jpeg=()),
}
DEGRADATIONS = (*PRESETS, "paired", "custom", "none")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Photos to batches.

    sources, valid_sources: folders (searched recursively), list files (.txt, one path a line), ArrayRecord shards or
        folders of them, or module:Class:place of your own (`sources.Source`); lr_sources, valid_lr_sources: the LR
        halves of pairs, found by the same relative name.
    crop_size: HR pixels; LR has crop_size / scale.
    degradation: realesrgan, mild, fixed, bicubic; paired (LR from lr_sources); custom (`custom_degradation`); none
        (HR only).
    shrink: a crop is taken from crop_size * s pixels of the photo and averaged down, s uniform between these two and
        never more than the photo holds; ResShift's `rescale_gt` is a range above any photo, such as (1000, 1000).
    candidates: crops drawn for each sample, of which the most detailed is kept: above 1, sky and blur are rarer.
    synthetic_fraction: share of rendered text and line art; 1 needs no photos.
    cache_megabytes: decoded photos kept, over all workers of a process. threads work inside the process if
        num_workers is 0; otherwise that many processes do. prefetch: batches made ahead.
    """

    sources: tuple[str, ...] = ()
    valid_sources: tuple[str, ...] = ()
    lr_sources: tuple[str, ...] = ()
    valid_lr_sources: tuple[str, ...] = ()
    crop_size: int = 256
    scale: int = 4
    degradation: str = "realesrgan"
    custom_degradation: DegradationConfig | None = None
    flips: bool = True
    vertical_flips: bool = False
    candidates: int = 1
    shrink: Range = (1.0, 1.0)
    synthetic_fraction: float = 0.0
    cache_megabytes: int = 1024
    num_workers: int = 0
    threads: int = 1
    prefetch: int = 4

    @property
    def process(self) -> DegradationConfig | None:
        """The degradation's settings; None where LR is not made here (paired, none)."""
        return self.custom_degradation if self.degradation == "custom" else PRESETS.get(self.degradation)

    @property
    def has_valid(self) -> bool:
        """Whether there are held-out images."""
        return bool(self.valid_sources) or self.synthetic_fraction == 1

    def __post_init__(self) -> None:
        check_choice(self, "degradation", DEGRADATIONS)
        _probability(self, "synthetic_fraction")
        _range(self, "shrink", 1, 1e6)
        for name, least in {
            "scale": 1,
            "candidates": 1,
            "cache_megabytes": 0,
            "num_workers": 0,
            "threads": 1,
            "prefetch": 1,
        }.items():
            if getattr(self, name) < least:
                raise ConfigError(f"data.{name}={getattr(self, name)} must be at least {least}")
        if self.crop_size < 1 or self.crop_size % self.scale:
            raise ConfigError(f"data.crop_size={self.crop_size} must be a multiple of data.scale={self.scale}")
        if not self.sources and self.synthetic_fraction < 1:
            raise ConfigError("data.sources is empty: name a folder of photos, or set data.synthetic_fraction to 1")
        if (self.degradation == "custom") != (self.custom_degradation is not None):
            raise ConfigError("data.custom_degradation and data.degradation='custom' belong together: give both")
        if self.process is not None and self.process.margin % self.scale:
            raise ConfigError(f"margin={self.process.margin} must be a multiple of data.scale={self.scale}")
        paired = self.degradation == "paired"
        if paired != bool(self.lr_sources):
            raise ConfigError("data.lr_sources and data.degradation='paired' belong together: give both")
        if paired and bool(self.valid_sources) != bool(self.valid_lr_sources):
            raise ConfigError("data.valid_sources needs data.valid_lr_sources when degradation is 'paired'")
        if paired and (self.synthetic_fraction or self.shrink != (1.0, 1.0)):
            raise ConfigError("paired data takes neither synthetic_fraction nor shrink: LR is as it is")
