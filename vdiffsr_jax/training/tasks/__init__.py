"""One file per task; `make` finds it by name and imports no other."""

from __future__ import annotations

from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.tasks.task import Task


def make(cfg: TrainConfig) -> Task:
    """The task of a configuration, checked; no device has been touched.

    Raises: ConfigError, CheckpointError.
    """
    if cfg.task == "vqgan":
        from vdiffsr_jax.training.tasks.vqgan import VQGANTask

        return VQGANTask(cfg)
    if cfg.task == "tokenizer":
        from vdiffsr_jax.training.tasks.tokenizer import TokenizerTask

        return TokenizerTask(cfg)
    if cfg.task == "var":
        from vdiffsr_jax.training.tasks.var import VARTask

        return VARTask(cfg)
    if cfg.task == "teacher":
        from vdiffsr_jax.training.tasks.teacher import TeacherTask

        return TeacherTask(cfg)
    from vdiffsr_jax.training.tasks.distill import DistillTask

    return DistillTask(cfg)
