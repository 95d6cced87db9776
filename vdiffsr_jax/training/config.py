"""Training's configuration: one frozen dataclass per concern, and every check that needs no device."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from vdiffsr_jax.config import ConfigError, Dataclass, check_choice, parse
from vdiffsr_jax.config.ranges import Count, Decay, Fraction, Positive, Weight, Whole, between
from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.models.remat import POLICIES
from vdiffsr_jax.training import tasks


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW. `new_learning_rate` is for parts that the starting weights do not have (CoGU, CSPA, the prior).

    The rate rises over `warmup` steps, then stays or falls along a cosine to `final` times its peak. Gradients are
    clipped to the global norm `clip`, generator and discriminator each by itself; 0 leaves them.
    """

    learning_rate: Positive = 1e-4
    new_learning_rate: Positive | None = None
    discriminator_learning_rate: Positive | None = None
    b1: Decay = 0.9
    b2: Decay = 0.95
    discriminator_b1: Decay = 0.5
    discriminator_b2: Decay = 0.9
    eps: Positive = 1e-8
    weight_decay: Weight = 0.0
    clip: Weight = 1.0
    warmup: Whole = 500
    schedule: str = "cosine"
    final: Fraction = 0.0

    def __post_init__(self) -> None:
        check_choice(self, "schedule", ("cosine", "constant"))


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices as (data, fsdp); data = 0 takes all that fsdp leaves. `cpu_devices` makes virtual ones on a CPU.

    Arrays of fewer than `min_shard_size` elements stay whole on every device.
    """

    data: Whole = 0
    fsdp: Count = 1
    cpu_devices: Whole = 0
    min_shard_size: Whole = 16384
    shard_frozen: bool = True


@dataclasses.dataclass(frozen=True)
class HeldOutPairs:
    """Folders of whole HR pictures and of LR pictures of the same names, a quarter of their size."""

    hr: str
    lr: str


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Held-out metrics and a sample grid every `every` steps (0: never), over `batches` batches that never change.

    `best` names the metric that decides which model is kept in WORKDIR/best. The distance that the loss trains on would
    flatter the model: it decides only if `allow_trained_metric`.
    `metrics`: names of `evaluate.py --list-metrics` besides the task's own, of 8-bit pictures under the rules `scores`;
    their weights lie in the folder `weights`. Of `pairs` they are measured too, as pairs_NAME.
    """

    every: Whole = 1000
    batches: Count = 4
    grid_rows: Count = 6
    best: str = ""
    allow_trained_metric: bool = False
    metrics: tuple[str, ...] = ()
    weights: str = "checkpoints"
    scores: str = "default"
    pairs: HeldOutPairs | None = None

    def __post_init__(self) -> None:
        check_choice(self, "scores", tuple(RULES))
        for name in self.metrics:
            if name not in catalog.METRICS:
                raise ConfigError(f"eval.metrics: {name!r} is unknown; known: {', '.join(catalog.METRICS)}")
        if self.pairs is not None and not self.metrics:
            raise ConfigError("eval.pairs is there but no eval.metrics: name what is measured of them")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """A train state every `every` steps; the last `keep_last` and the `keep_best` with the best metric stay."""

    every: Count = 1000
    keep_last: Count = 2
    keep_best: Whole = 1


@dataclasses.dataclass(frozen=True)
class InitFrom:
    """Checkpoints of networks that are frozen here or that training starts from: directories, or names as --ckpt takes.

    first_stage: kind vqgan or vdiffsr. denoiser: swin_unet or vdiffsr. teacher: as denoiser, frozen. tokenizer:
    var_tokenizer. var: var. pvar: pvar or vdiffsr, instead of tokenizer and var. perceptual: perceptual.
    """

    first_stage: str | None = None
    denoiser: str | None = None
    teacher: str | None = None
    tokenizer: str | None = None
    var: str | None = None
    pvar: str | None = None
    perceptual: str | None = None


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run. `model` and `loss` are the dataclasses of `task`; `share` is its part of a chain's time."""

    task: str
    model: Dataclass
    loss: Dataclass
    data: DataConfig
    batch_size: Count = 64
    steps: Count = 100_000
    share: Positive = 1.0
    seed: Annotated[int, between(0, 2**32 - 1)] = 0
    accumulate: Count = 1
    dtype: str = "float32"
    frozen_dtype: str = "float32"
    remat: str = "none"
    ema_decay: Decay = 0.999
    log_every: Count = 50
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    init_from: InitFrom = InitFrom()

    def __post_init__(self) -> None:
        for name in ("dtype", "frozen_dtype"):
            check_choice(self, name, ("float32", "bfloat16"))
        if self.frozen_dtype == "bfloat16" and self.dtype == "float32":
            raise ConfigError("frozen_dtype=bfloat16 needs dtype=bfloat16: weights used in float32 are not rounded")
        check_choice(self, "remat", POLICIES)
        trained = self.eval.best == "perceptual" and getattr(self.loss, "perceptual", 0) > 0
        if trained and not self.eval.allow_trained_metric:
            raise ConfigError(
                "eval.best='perceptual' is the distance that the loss trains on (loss.perceptual): choose another "
                "metric, or set eval.allow_trained_metric=true"
            )
        if self.mesh.data:
            check_batch(self, self.mesh.data * self.mesh.fsdp)


def parse_train(values: Mapping[str, Any]) -> TrainConfig:
    """A run's configuration from what `get_config()` returns.

    Raises: ConfigError naming the field; no device has been touched by then.
    """
    values = dict(values)
    task = tasks.find(values.get("task"))
    for name, cls in (("model", task.model_config), ("loss", task.loss_config)):
        given = values.get(name, {})
        values[name] = given if isinstance(given, cls) else parse(cls, given, f"{name}.")
    if "data" not in values:
        raise ConfigError("data is missing: say where the images are (data.sources)")
    return parse(TrainConfig, values)


def check_batch(cfg: TrainConfig, devices: int) -> None:
    """Raise ConfigError unless every device gets equally many samples in each accumulated part."""
    share = devices * cfg.accumulate
    if cfg.batch_size % share:
        near = max(share, round(cfg.batch_size / share) * share)
        parts = f"{devices} devices" + (f" x accumulate={cfg.accumulate}" if cfg.accumulate > 1 else "")
        raise ConfigError(f"batch_size={cfg.batch_size} must divide by {parts}; try {near}")
