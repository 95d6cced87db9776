"""Task `distill`: VDiff-SR's one-step student, from a frozen teacher's deterministic chain."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.diffusion import losses, sampler
from vdiffsr_jax.models.assembled import Denoise, assemble
from vdiffsr_jax.training.config import DistillLoss, TrainConfig
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.perceptual import Perceptual
from vdiffsr_jax.training.tasks.restorer import RestorerTask, source_config
from vdiffsr_jax.training.tasks.task import Judgement, Placement, prefixed, upsampled

# This task's name of a teacher's network -> the item of the assembled model.
TEACHER = {"teacher": "denoiser", "teacher_pvar": "pvar"}


class DistillTask(RestorerTask):
    """distil + inverse + gt + perceptual (design section 8); the student starts as the teacher's UNet by default.

    Source: SinSR (arXiv:2311.14760), with the prior's units of VDiff-SR.
    """

    loss_config = DistillLoss

    def __init__(self, cfg: TrainConfig):
        self.weights: DistillLoss = cfg.loss
        self.teacher = source_config("teacher", cfg.init_from.teacher, cfg.model)
        if cfg.init_from.denoiser is None:
            self.start_flag = "teacher"
        super().__init__(cfg)
        self.teacher_model = assemble(self.teacher, dtype=self.dtype)
        self.networks |= {
            name: self.teacher_model.networks[item]
            for name, item in TEACHER.items()
            if item in self.teacher_model.networks
        }
        self.perceptual = Perceptual(cfg) if self.weights.perceptual else None
        if self.perceptual:
            self.networks["perceptual"] = self.perceptual.network

    def restorers(self) -> list[tuple[str, VDiffSRConfig]]:
        return [*super().restorers(), ("teacher", self.teacher)]

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        directory, dtype = str(self.cfg.init_from.teacher), jnp.dtype(self.cfg.frozen_dtype)
        sources.same_latents(directory, str(self.cfg.init_from.first_stage))
        flat = super().load(key, placement)
        params = sources.read_tree("teacher", directory, "teacher", placement, dtype=dtype)
        flat |= prefixed("teacher", {"unet": params} if "unet" not in params else params)
        if self.teacher.prior is not None:
            flat |= sources.read("teacher", directory, "teacher_pvar", placement, item="pvar", dtype=dtype)
        return flat | (self.perceptual.load(placement) if self.perceptual else {})

    def loss(self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Flat]:
        lr, hr, window = batch["lr"], batch["hr"], upsampled(batch)
        z_0, z_y = self.encode_both(flat, hr, window)
        noise = jax.random.normal(key, z_y.shape, z_y.dtype)
        teacher_items = {item: self.tree(name, flat) for name, item in TEACHER.items() if name in self.networks}
        teacher = self.teacher_model.denoiser(teacher_items, lr, window)
        z_0_teacher = jax.lax.stop_gradient(sampler.sample_deterministic(teacher, self.schedule, z_y, noise))
        terms = losses.student_terms(
            self.closure(flat, lr, window),
            self.schedule,
            sampler.start(self.schedule, z_y, noise),
            z_0_teacher,
            z_0,
            inverse=self.weights.use_inverse,
            gt_start=self.weights.gt_start,
            perceptual=(lambda z: self._distance(flat, self.decode(flat, z), hr)) if self.perceptual else None,
        )
        weights = losses.StudentWeights(
            self.weights.distil, self.weights.inverse, self.weights.gt, self.weights.perceptual
        )
        parts = {name: term.mean() for name, term in terms.items()}
        return losses.total(terms, weights).mean(), parts

    def _distance(self, flat: Flat, a: jax.Array, b: jax.Array) -> jax.Array:
        assert self.perceptual is not None
        return self.perceptual(self.tree("perceptual", flat), a, b)

    def sample(self, denoise: Denoise, z_y: jax.Array, noise: jax.Array) -> jax.Array:
        return sampler.sample_one_step(denoise, self.schedule, z_y, noise)

    def judge(self, flat: Flat, batch: Batch, key: jax.Array) -> Judgement:
        judged = super().judge(flat, batch, key)
        if self.perceptual:
            judged.metrics["perceptual"] = self._distance(flat, judged.image, batch["hr"])
        return judged
