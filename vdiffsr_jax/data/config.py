"""Where the photos are, how crops are drawn, how they are degraded: every setting of the data and its checks."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from vdiffsr_jax.config import ConfigError, check_choice
from vdiffsr_jax.config.ranges import Count, Fraction, Range, Whole, span

RESIZES = ("area", "bilinear", "bicubic", "antialiased_bilinear", "antialiased_bicubic")
Pair = tuple[float, float]
OddSizes = Annotated[
    tuple[int, ...], Range("be odd numbers of pixels", lambda sizes: sizes and all(n > 0 and n % 2 for n in sizes))
]
Qualities = Annotated[
    tuple[int, ...], Range("be empty, or two rising numbers in 1..100", lambda q: not q or span(1, 100).holds(q))
]


def distribution(count: int) -> Range:
    """So many probabilities, of everything that can happen."""
    return Range(
        f"be {count} probabilities that sum to 1",
        lambda values: len(values) == count and abs(sum(values) - 1) <= 1e-6,
    )


@dataclasses.dataclass(frozen=True)
class BlurConfig:
    """Random blur: a sinc with `sinc_prob`, else Gaussian, generalised or plateau, each iso- or anisotropic.

    `shape_prob` follows kernels.SHAPES. `sigma` is in pixels; the defaults are ResShift's first stage.
    """

    prob: Fraction = 1.0
    sizes: OddSizes = (3, 5, 7, 9, 11, 13, 15, 17, 19)
    sigma: Annotated[Pair, span(1e-3, 50)] = (0.2, 3.0)
    sinc_prob: Fraction = 0.1
    shape_prob: Annotated[tuple[Fraction, ...], distribution(6)] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    beta_generalized: Annotated[Pair, span(0.05, 20)] = (0.5, 4.0)
    beta_plateau: Annotated[Pair, span(0.05, 20)] = (1.0, 2.0)


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """Blur, resize, noise, JPEG, in this order; skipped as a whole with 1 - `prob`.

    `resize_prob`: up, down, keep; `resize` the lowest and highest factor, of the HR size or (`of_lr`) of the LR size.
    Noise is Gaussian (`gaussian`, standard deviation in grey levels) or else Poisson (`poisson`, a factor), the same
    in the three channels with `gray_prob`. `jpeg`: lowest and highest quality; empty leaves JPEG out.
    """

    prob: Fraction = 1.0
    blur: BlurConfig = BlurConfig()
    resize_prob: Annotated[tuple[Fraction, ...], distribution(3)] = (0.2, 0.7, 0.1)
    resize: Annotated[Pair, span(0.01, 8)] = (0.15, 1.5)
    of_lr: bool = False
    gaussian_prob: Fraction = 0.5
    gaussian: Annotated[Pair, span(0, 255)] = (1.0, 30.0)
    poisson: Annotated[Pair, span(0, 100)] = (0.05, 3.0)
    gray_prob: Fraction = 0.4
    jpeg: Qualities = (30, 95)


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
    sinc_prob: Fraction = 0.8
    sinc_sizes: OddSizes = (3, 5, 7, 9, 11, 13)
    jpeg: Qualities = (30, 95)
    jpeg_last_prob: Fraction = 0.5
    sharpen: bool = False
    margin: Whole = 0

    def __post_init__(self) -> None:
        unknown = [mode for mode in self.resizes if mode not in RESIZES]
        if unknown or not self.resizes:
            raise ConfigError(f"DegradationConfig.resizes={self.resizes} must name some of {', '.join(RESIZES)}")


def _single(sigma: Pair, noise: Pair, jpeg: tuple[int, ...], *, anisotropic: float = 0.0) -> StageConfig:
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
    crop_size: Count = 256
    scale: Count = 4
    degradation: str = "realesrgan"
    custom_degradation: DegradationConfig | None = None
    flips: bool = True
    vertical_flips: bool = False
    candidates: Count = 1
    shrink: Annotated[Pair, span(1, 1e6)] = (1.0, 1.0)
    synthetic_fraction: Fraction = 0.0
    cache_megabytes: Whole = 1024
    num_workers: Whole = 0
    threads: Count = 1
    prefetch: Count = 4

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
        if self.crop_size % self.scale:
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
