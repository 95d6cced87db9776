"""Task `distill`: VDiff-SR's one-step student, from a frozen teacher's deterministic chain."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import ConfigError, VDiffSRConfig, check_choice
from vdiffsr_jax.config.ranges import Count, Weight, Whole
from vdiffsr_jax.diffusion import losses, sampler
from vdiffsr_jax.models import vqgan
from vdiffsr_jax.models.assembled import Assembled, Denoise, assemble
from vdiffsr_jax.models.build import Network, build
from vdiffsr_jax.models.patch_gan import FeatureGAN, PatchGAN, smallest_side
from vdiffsr_jax.models.perceptual import VGG16
from vdiffsr_jax.training.adversarial import AdversarialConfig, discriminator_loss, generator_loss
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat, Metrics
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.perceptual import Perceptual
from vdiffsr_jax.training.tasks.restorer import RestorerTask, read_window, source_config
from vdiffsr_jax.training.tasks.task import Evaluation, Placement, refuse_if, upsampled
from vdiffsr_jax.weights import storage

# This task's name of a teacher's network -> the item of the assembled model.
TEACHER = {"teacher": "denoiser", "teacher_pvar": "pvar"}
DECODER = tuple(f"first_stage/{part}" for part in vqgan.DECODER)


def average_patches(image: jax.Array, size: int) -> jax.Array:
    """(b, h, w, c) -> means of patches of size x size pixels, (b, h / size, w / size, c)."""
    b, h, w, c = image.shape
    return image.reshape(b, h // size, size, w // size, size, c).mean(axis=(2, 4))


@dataclasses.dataclass(frozen=True)
class DistillLoss:
    """Weights of the student's terms (design section 8); without `use_inverse` nothing trains f(., 0).

    `distil`: 0 leaves the teacher out; a run that starts from `init_from.denoiser` needs none then.
    `gt_start`: the gt term starts from the noise the student predicts for the real HR, or from a sampled one.
    `pixel`: |picture - HR| after averaging patches of `pixel_size`, so that it does not fight texture. `picture_size`:
    the side in pixels of the window, at a random place, that is decoded for the terms of the picture (0: all of it);
    decoding and looking at a whole picture costs more than denoising it. `distil_until`: the step at which the distil
    term has faded to nothing (0: never), for a teacher weaker than its student.
    `train_decoder`: the first stage's decoder learns too; encoder and codebook never do.
    """

    distil: Weight = 1.0
    inverse: Weight = 1.0
    gt: Weight = 1.0
    perceptual: Weight = 1.0
    use_inverse: bool = True
    gt_start: str = "predicted"
    pixel: Weight = 0.0
    pixel_size: Count = 2
    picture_size: Whole = 0
    distil_until: Whole = 0
    train_decoder: bool = False
    adversarial: AdversarialConfig = AdversarialConfig()

    def __post_init__(self) -> None:
        check_choice(self, "gt_start", losses.GT_STARTS)
        gt_sampled = self.gt and self.gt_start == "sampled"
        of_latents = self.distil or gt_sampled or (self.use_inverse and (self.inverse or self.gt))
        if not (of_latents or self.perceptual or self.pixel or self.adversarial.weight):
            raise ConfigError(
                "loss: no term is left to train on; give distil, perceptual, pixel or adversarial.weight a weight, or "
                "set use_inverse=true for inverse and gt"
            )


class DistillTask(RestorerTask[DistillLoss]):
    """distil + inverse + gt + perceptual (design section 8); the student starts as the teacher's UNet by default.

    `loss.pixel`, `loss.adversarial` and `loss.train_decoder` sharpen its pictures (design section 10).
    Source: SinSR (arXiv:2311.14760), with the prior's units of VDiff-SR.
    """

    loss_config = DistillLoss

    def __init__(self, cfg: TrainConfig):
        assert isinstance(cfg.model, VDiffSRConfig)  # `restorers` tells of the teacher before the model is set up
        assert isinstance(cfg.loss, DistillLoss)
        if cfg.init_from.denoiser is None:
            self.start_flag = "teacher"
        self.teacher: VDiffSRConfig | None = None
        if cfg.loss.distil or self.start_flag == "teacher":
            self.teacher = source_config("teacher", cfg.init_from.teacher, cfg.model)
        super().__init__(cfg)
        self.teacher_model: Assembled | None = None
        if self.teacher and self.weights.distil:
            self.teacher_model = assemble(self.teacher, dtype=self.dtype)
            have = self.teacher_model.networks
            self.networks |= {name: have[item] for name, item in TEACHER.items() if item in have}
        if "teacher_pvar" in self.networks and self._prior_is_the_teachers():
            # The compiler finds once what both compute: the codes, and without LoRA or prior.train=full VAR's pass.
            self.shared = {"teacher_pvar/": "pvar/"}
        self.game = self.weights.adversarial
        looks_through_vgg = bool(self.game.weight) and self.game.on == "vgg16"
        self.perceptual = Perceptual(cfg) if self.weights.perceptual or looks_through_vgg else None
        if self.perceptual:
            self.networks["perceptual"] = self.perceptual.network
        if self.game.weight:
            self.networks["discriminator"] = self._discriminator(looks_through_vgg)
        self.sees_pictures = bool(self.weights.perceptual or self.weights.pixel or self.game.weight)
        refuse_if(self.weights.train_decoder and not self.sees_pictures,
               "loss.train_decoder needs loss.perceptual, loss.pixel or loss.adversarial")  # fmt: skip
        crop, patch, factor = cfg.data.crop_size, self.weights.pixel_size, self.model.first_stage.factor
        seen = self.weights.picture_size or crop
        refuse_if(bool(self.weights.pixel) and seen % patch > 0, f"the picture's {seen} pixels must divide by "
               f"loss.pixel_size={patch}")  # fmt: skip
        refuse_if(seen > crop or seen % factor > 0, f"loss.picture_size={seen} must divide by the first stage's "
               f"factor, {factor}, and be at most data.crop_size={crop}")  # fmt: skip
        of_pixels, smallest = bool(self.game.weight) and self.game.on == "pixels", smallest_side(self.game.layers)
        refuse_if(of_pixels and seen < smallest, f"loss.adversarial.layers={self.game.layers} needs pictures of "
               f"{smallest} pixels a side, not {seen}: fewer layers, or a larger loss.picture_size")  # fmt: skip
        self.cells = seen // factor

    def _discriminator(self, looks_through_vgg: bool) -> Network[Any]:
        game, options = self.game, {"channels": self.game.channels, "dtype": self.dtype}
        if game.on == "pixels":
            return build(PatchGAN, layers=game.layers, **options)
        if looks_through_vgg:
            backbone = sources.network_in("perceptual", self.cfg.init_from.perceptual)[2].backbone
            refuse_if(backbone != "vgg16", f"loss.adversarial.on=vgg16 but init_from.perceptual is {backbone}")
        seen = VGG16.channels if looks_through_vgg else (self.model.first_stage.embed_dim,)
        return build(FeatureGAN, seen, **options)

    def restorers(self) -> list[tuple[str, VDiffSRConfig]]:
        return super().restorers() + ([("teacher", self.teacher)] if self.teacher else [])

    def _prior_is_the_teachers(self) -> bool:
        if self.model.prior is None:
            return False
        whole, teacher = self._trained_prior(), self.cfg.init_from.teacher
        return whole is not None and teacher is not None and storage.place(whole[1]) == storage.place(teacher)

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        directory = str(self.cfg.init_from.teacher)
        flat = super().load(key, placement)
        if self.teacher_model:
            plain = sources.network_in("teacher", directory)[0] == "swin_unet"
            network = "teacher/unet" if plain else "teacher"
            flat |= sources.read("teacher", directory, network, placement, dtype=self.stored)
        if any(name.startswith("teacher_pvar/") for name in self.abstract()):
            theirs = sources.read("teacher", directory, "teacher_pvar", placement, item="pvar", dtype=self.stored)
            flat |= {name: p for name, p in theirs.items() if self.name_in_flat(name) == name}
        if "discriminator" in self.networks:
            flat |= self.fresh("discriminator", jax.random.fold_in(key, 2), placement)
        return flat | (self.perceptual.load(placement, self.stored) if self.perceptual else {})

    def trainable(self, name: str) -> bool:
        learns = self.weights.train_decoder and name.startswith(DECODER)
        return learns or name.startswith("discriminator/") or super().trainable(name)

    def group(self, name: str) -> str:
        if name.startswith(DECODER):
            return "base"
        return "discriminator" if name.startswith("discriminator/") else super().group(name)

    def gradients(
        self, params: Flat, frozen: Flat, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[Flat, Metrics]:
        """The student's gradients, and the discriminator's from the picture that the student just made."""
        critic = {name: p for name, p in params.items() if name.startswith("discriminator/")}
        student = {name: p for name, p in params.items() if name not in critic}

        def scalar(student: Flat) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Metrics]]:
            return self.student_loss(student | critic | frozen, batch, key, step)

        (loss, (made, real, parts)), grads = jax.value_and_grad(scalar, has_aux=True)(student)
        if critic:
            rest = student | frozen

            def against(critic: Flat) -> jax.Array:
                flat = critic | rest
                loss = discriminator_loss(
                    lambda image: self._layers(flat, image), real, made, jax.random.fold_in(key, 1), self.game
                )
                started: jax.Array = step >= self.game.start
                return loss * started

            parts["discriminator"], critic_grads = jax.value_and_grad(against)(critic)
            grads |= critic_grads
        return grads, parts | {"loss": loss}

    def loss(self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, (_, _, parts) = self.student_loss(flat, batch, key, step)
        return loss, parts

    def student_loss(
        self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Metrics]]:
        """What the student minimises, (its decoded picture, the real one, the terms before their weights)."""
        lr, hr, window, weights = batch["lr"], batch["hr"], upsampled(batch), self.weights
        z_0, z_y = self.encode_both(flat, hr, window)
        noise = jax.random.normal(key, z_y.shape, z_y.dtype)
        z_0_teacher = self._teachers(flat, lr, window, z_y, noise)
        terms, z_0_student = losses.student_terms(
            self.closure(flat, lr, window),
            self.schedule,
            sampler.start(self.schedule, z_y, noise),
            z_0_teacher,
            z_0,
            inverse=weights.use_inverse,
            gt_start=weights.gt_start,
        )
        made = real = hr
        if self.sees_pictures:
            made, real = self._picture(flat, z_0_student, hr, jax.random.fold_in(key, 2))
        if self.perceptual and weights.perceptual:
            terms["perceptual"] = self._distance(flat, made, real)
        parts = {name: term.mean() for name, term in terms.items()}
        if weights.distil_until and "distil" in terms:
            terms["distil"] = terms["distil"] * jnp.clip(1 - step / weights.distil_until, 0.0, 1.0)
        loss = losses.total(terms, vars(weights)).mean() if terms else jnp.zeros(())
        if weights.pixel:
            parts["pixel"] = jnp.abs(average_patches(made - real, weights.pixel_size)).mean()
            loss = loss + weights.pixel * parts["pixel"]
        if self.game.weight:
            game = generator_loss(lambda image: self._layers(flat, image), real, made, self.game)
            started = (step >= self.game.start).astype(loss.dtype)
            loss = loss + started * (self.game.weight * game["gan"] + self.game.matching * game.get("matching", 0.0))
            parts |= game
        return loss, (made, real, parts)

    def _teachers(
        self, flat: Flat, lr: jax.Array, window: jax.Array, z_y: jax.Array, noise: jax.Array
    ) -> jax.Array | None:
        """z_0 of the teacher's chain, without a gradient."""
        if self.teacher_model is None:
            return None
        items = {item: self.tree(name, flat) for name, item in TEACHER.items() if name in self.networks}
        teacher = self.teacher_model.denoiser(items, lr, read_window(self.teacher_model.config, window))
        return jax.lax.stop_gradient(sampler.sample_deterministic(teacher, self.schedule, z_y, noise))

    def _picture(self, flat: Flat, z_0: jax.Array, hr: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The decoded window of `loss.picture_size` at a random place, the same for all samples, and HR there."""
        factor = self.model.first_stage.factor
        y, x = jax.random.randint(key, (2,), 0, z_0.shape[1] - self.cells + 1)

        def window(image: jax.Array, scale: int) -> jax.Array:
            b, side, c = image.shape[0], self.cells * scale, image.shape[-1]
            return jax.lax.dynamic_slice(image, (0, y * scale, x * scale, 0), (b, side, side, c))

        return self.decode(flat, window(z_0, 1)), window(hr, factor)

    def _layers(self, flat: Flat, image: jax.Array) -> list[jax.Array]:
        """The discriminator's maps of a picture, the scores last; what it looks through is frozen."""
        if self.game.on == "pixels":
            return self.method("discriminator", PatchGAN.layers)(flat, image)
        if self.game.on == "vgg16":
            assert self.perceptual is not None
            maps = self.perceptual.maps(self.tree("perceptual", flat), image)
        else:
            maps = [self.assembled.encode(self.items(flat, ["first_stage"]), image)]
        return self.method("discriminator", FeatureGAN.layers)(flat, maps)

    def _distance(self, flat: Flat, a: jax.Array, b: jax.Array) -> jax.Array:
        assert self.perceptual is not None
        return self.perceptual(self.tree("perceptual", flat), a, b)

    def sample(self, denoise: Denoise, z_y: jax.Array, noise: jax.Array) -> jax.Array:
        return sampler.sample_one_step(denoise, self.schedule, z_y, noise)

    def evaluate(self, flat: Flat, batch: Batch, key: jax.Array) -> Evaluation:
        judged = super().evaluate(flat, batch, key)
        if self.perceptual:
            judged.metrics["perceptual"] = self._distance(flat, judged.image, batch["hr"])
        return judged
