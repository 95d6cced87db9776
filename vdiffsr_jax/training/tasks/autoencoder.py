"""What training the first stage and training VAR's tokenizer share: reconstruct, look alike, fool a discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.models.autoencoder import Reconstruction
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.patch_gan import PatchGAN, smallest_side
from vdiffsr_jax.ops import precision
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat, Graded, Metrics
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.perceptual import Perceptual
from vdiffsr_jax.training.tasks.task import Evaluation, Export, M, Placement, Task, refuse_if
from vdiffsr_jax.training.vqgan_game import AutoencoderLoss, gan_gradients

LAST_KERNEL = "decoder/conv_out/kernel"
A = TypeVar("A", bound=AutoencoderLoss)


# Rows: luma, orange to blue, green to magenta; orthonormal.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], np.float32) / np.sqrt(np.array([[3], [2], [6]], np.float32))


def colour_weighted(difference: jax.Array, weights: Sequence[float]) -> jax.Array:
    """Difference of two images (b, h, w, 3) with its opponent axes scaled by `weights`, as RGB again."""
    if len(set(weights)) == 1:
        return difference * weights[0]
    with precision.exact():
        return difference @ (OPPONENT.T * np.asarray(weights, np.float32) @ OPPONENT)


def multiscale_l1(difference: jax.Array, levels: int) -> jax.Array:
    """Mean |difference| of an image (b, h, w, c), averaged over `levels` sizes of it, each half of the one before."""
    total = jnp.abs(difference).mean()
    for _ in range(levels - 1):
        b, h, w, c = difference.shape
        difference = difference.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        total = total + jnp.abs(difference).mean()
    return total / levels


class AutoencoderTask(Task[M, A]):
    """L1 + perceptual + patch GAN + codebook, on HR images alone. `loss.gan=0` trains without a discriminator.

    Source: Taming Transformers (arXiv:2012.09841), eq. 4 to 7, with L1 and a perceptual distance for |x - x'|^2.
    """

    loss_config = AutoencoderLoss
    network: ClassVar[str]
    kind: ClassVar[str]
    flag: ClassVar[str]
    module: ClassVar[Any]

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        refuse_if(cfg.remat != "none", f"remat is for var, align, teacher and distill, not for task {cfg.task}")
        halvings = 2 ** (self.weights.l1_levels - 1)
        refuse_if(cfg.data.crop_size % halvings > 0, f"data.crop_size={cfg.data.crop_size} must divide by {halvings}, "
               f"to be halved for loss.l1_levels={self.weights.l1_levels}")  # fmt: skip
        smallest = smallest_side(self.weights.discriminator_layers)
        refuse_if(self.weights.gan > 0 and cfg.data.crop_size < smallest, "loss.discriminator_layers="
               f"{self.weights.discriminator_layers} needs data.crop_size of {smallest} at least")  # fmt: skip
        start = getattr(cfg.init_from, self.flag)
        if start is not None:
            sources.check_settings(self.flag, sources.network_in(self.flag, start)[2], self.model, "model")
        self.perceptual = Perceptual(cfg) if self.weights.perceptual else None
        self.networks = {self.network: build(self.module, self.model, dtype=self.dtype)}
        if self.weights.gan:
            self.networks["patch_gan"] = build(
                PatchGAN,
                channels=self.weights.discriminator_channels,
                layers=self.weights.discriminator_layers,
                dtype=self.dtype,
            )
        if self.perceptual:
            self.networks["perceptual"] = self.perceptual.network

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        start = getattr(self.cfg.init_from, self.flag)
        flat = (
            self.fresh(self.network, jax.random.fold_in(key, 0), placement)
            if start is None
            else sources.read(self.flag, start, self.network, placement)
        )
        if "patch_gan" in self.networks:
            flat |= self.fresh("patch_gan", jax.random.fold_in(key, 1), placement)
        if self.perceptual:
            flat |= self.perceptual.load(placement, self.stored)
        return flat

    def trainable(self, name: str) -> bool:
        return not name.startswith("perceptual/")

    def group(self, name: str) -> str:
        return "discriminator" if name.startswith("patch_gan/") else "base"

    def gradients(self, params: Flat, frozen: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> Graded:
        real = batch["hr"]
        players: dict[bool, Flat] = {True: {}, False: {}}
        for name, p in params.items():
            players[name.startswith("patch_gan/")][name] = p

        def autoencode(params: Flat) -> tuple[tuple[jax.Array, jax.Array], Metrics]:
            made = self.reconstruct(params, real, step)
            return (made.image, made.vq_loss), made.usage

        def match(image: jax.Array) -> tuple[jax.Array, Metrics]:
            difference = colour_weighted(image - real, self.weights.l1_colour)
            parts = {"l1": multiscale_l1(difference, self.weights.l1_levels)}
            if self.perceptual:
                parts["perceptual"] = self.perceptual(self.tree("perceptual", frozen), image, real).mean()
            return sum(getattr(self.weights, name) * part for name, part in parts.items()), parts

        return gan_gradients(
            autoencode,
            match,
            self.method("patch_gan", PatchGAN.__call__) if "patch_gan" in self.networks else None,
            players[False],
            players[True],
            real,
            step,
            self.weights,
            f"{self.network}/{LAST_KERNEL}",
        )

    def reconstruct(self, params: Flat, image: jax.Array, step: jax.Array) -> Reconstruction:
        """The network at work in a training step."""
        made: Reconstruction = self.apply(self.network, params, image)
        return made

    def evaluate(self, flat: Flat, batch: Batch, key: jax.Array) -> Evaluation:
        made = self.apply(self.network, flat, batch["hr"])
        image = jnp.clip(made.image, -1, 1)
        metrics = {"l1": jnp.abs(image - batch["hr"]).mean(axis=(1, 2, 3))}
        if self.perceptual:
            metrics["perceptual"] = self.perceptual(self.tree("perceptual", flat), image, batch["hr"])
        return Evaluation(image, metrics)

    def export(self, flat: Flat) -> Export:
        return Export(self.kind, self.model, {self.kind: self.tree(self.network, flat)})
