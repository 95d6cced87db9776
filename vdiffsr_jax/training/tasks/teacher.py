"""Task `teacher`: residual-shifting diffusion, with or without the prior."""

from __future__ import annotations

import dataclasses

import jax

from vdiffsr_jax.diffusion import losses, sampler
from vdiffsr_jax.models.assembled import Denoise
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat, Metrics
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks.restorer import RestorerTask
from vdiffsr_jax.training.tasks.task import upsampled


@dataclasses.dataclass(frozen=True)
class TeacherLoss:
    """Residual shifting has one term and no weight."""


class TeacherTask(RestorerTask[TeacherLoss]):
    """|f(z_t, t) - z_0|^2 for uniform t; judged by its deterministic chain, which is what a student learns.

    Source: ResShift (arXiv:2307.12348), section 2.1.
    """

    loss_config = TeacherLoss

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        self.sampling_steps = self.model.schedule.num_steps

    def loss(self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Metrics]:
        window = upsampled(batch)
        z_0, z_y = self.encode_both(flat, batch["hr"], window)
        key_t, key_noise = jax.random.split(key)
        t = losses.uniform_t(key_t, z_0.shape[0], self.schedule)
        noise = jax.random.normal(key_noise, z_0.shape, z_0.dtype)
        denoise = self.closure(flat, batch["lr"], window)
        return losses.teacher_loss(denoise, self.schedule, z_0, z_y, t, noise).mean(), {}

    def sample(self, denoise: Denoise, z_y: jax.Array, noise: jax.Array) -> jax.Array:
        return sampler.sample_deterministic(denoise, self.schedule, z_y, noise)
