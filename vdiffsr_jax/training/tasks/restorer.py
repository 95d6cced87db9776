"""What teacher and student share: the assembled model, its latents and prior, its starting weights, its checkpoint."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.diffusion import schedule
from vdiffsr_jax.models import pyramid_var
from vdiffsr_jax.models.build import Params, build, cast
from vdiffsr_jax.models.pyramid_var import PyramidVAR
from vdiffsr_jax.models.vdiffsr import VDiffSR, from_unet
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.sharding import placed
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.task import Export, Judgement, LossTask, Placement, Task, prefixed, refuse, upsampled

Denoise = Callable[[jax.Array, jax.Array], jax.Array]


def source_config(flag: str, directory: str | None, model: VDiffSRConfig) -> VDiffSRConfig:
    """A denoiser checkpoint's configuration as that of an assembled model; a plain UNet's has no prior.

    Raises: ConfigError if its UNet or (for the teacher) its schedule is not the model's.
    """
    kind, _, found = sources.describe(flag, directory)
    if kind == "swin_unet":
        found = dataclasses.replace(model, denoiser=found.denoiser, schedule=found.schedule, prior=None)
    sources.same(flag, found.denoiser, model.denoiser, "model.denoiser")
    if flag == "teacher":
        sources.same(flag, found.schedule, model.schedule, "model.schedule")
    return found


class RestorerTask(LossTask):
    """Denoiser and, with a prior, PyramidVAR are trained around a frozen first stage."""

    start_flag = "denoiser"

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        model: VDiffSRConfig = cfg.model
        self.model = model
        crop, window = cfg.data.crop_size, model.tile_size * model.scale
        refuse(crop != window, f"data.crop_size={crop} must be one tile, model.denoiser.image_size * scale = {window}")
        refuse(cfg.data.scale != model.scale, f"data.scale={cfg.data.scale} must be model.scale={model.scale}")
        first_stage = sources.describe("first_stage", cfg.init_from.first_stage)[2]
        sources.same("first_stage", first_stage, model.first_stage, "model.first_stage")
        self.schedule = schedule.make(model.schedule)
        self.start = self._start_config()
        self.networks = {
            "denoiser": build(VDiffSR, model, dtype=self.dtype, remat=cfg.remat),
            "first_stage": build(VQGAN, model.first_stage, dtype=self.dtype),
        }
        if model.prior is not None:
            self._check_prior(model)
            self.networks["pvar"] = build(PyramidVAR, model.prior, dtype=self.dtype, remat=cfg.remat)

    def _start_config(self) -> VDiffSRConfig | None:
        directory = getattr(self.cfg.init_from, self.start_flag)
        return None if directory is None else source_config(self.start_flag, directory, self.model)

    def _check_prior(self, model: VDiffSRConfig) -> None:
        assert model.prior is not None
        start = self.cfg.init_from
        refuse(model.prior.var.folded, "model.prior.var.folded=True is for inference only")
        refuse(model.prior.mode == "shuffled" and self.cfg.batch_size < 2 * self.cfg.accumulate,
               "prior.mode=shuffled needs at least two samples at a time")  # fmt: skip
        if start.pvar is not None:
            found = sources.describe("pvar", start.pvar)[2]
            same_shape = {"train": model.prior.train, "mode": model.prior.mode}
            sources.same("pvar", dataclasses.replace(found, **same_shape), model.prior, "model.prior")
            refuse(model.prior.mode == "random_weights", "prior.mode=random_weights starts from tokenizer and var")
            return
        tokenizer = sources.describe("tokenizer", start.tokenizer)[2]
        sources.same("tokenizer", tokenizer, model.prior.tokenizer, "model.prior.tokenizer")
        sources.same("var", sources.describe("var", start.var)[2], model.prior.var, "model.prior.var")

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        keys = [jax.random.fold_in(key, i) for i in range(2)]
        first_stage = str(self.cfg.init_from.first_stage)
        frozen_dtype = jnp.dtype(self.cfg.frozen_dtype)
        flat = sources.read("first_stage", first_stage, "first_stage", placement, dtype=frozen_dtype)
        flat |= self._load_denoiser(keys[0], placement)
        if self.model.prior is not None:
            flat |= self._load_prior(keys[1], placement)
        return flat

    def _load_denoiser(self, key: jax.Array, placement: Placement) -> Flat:
        """The starting checkpoint's; CoGU and CSPA are fresh where it has none (it computes the same then)."""
        if self.start is None:
            return self.fresh("denoiser", key, placement)
        directory = getattr(self.cfg.init_from, self.start_flag)
        params = sources.read_tree(self.start_flag, directory, "denoiser", placement)
        unet = params.get("unet", params)
        if self.start.prior is None or self.model.prior is None or not self._same_units():
            params = from_unet(unet, self.model, key)
        return placed(placement, prefixed("denoiser", params))

    def _same_units(self) -> bool:
        assert self.start is not None
        units = [
            (c.cogu, c.cspa, c.prior and (c.prior.dim, c.prior.tokenizer.patch_nums)) for c in (self.start, self.model)
        ]
        return units[0] == units[1]

    def _load_prior(self, key: jax.Array, placement: Placement) -> Flat:
        start, prior = self.cfg.init_from, self.model.prior
        assert prior is not None
        if start.pvar is not None:
            flat = sources.read("pvar", start.pvar, "pvar", placement)
        else:
            var = sources.read_tree("var", str(start.var), "var", placement)
            tokenizer = sources.read_tree("tokenizer", str(start.tokenizer), "tokenizer", placement)
            flat = prefixed("pvar", pyramid_var.load_parts(var, tokenizer, prior, key))
        frozen_dtype = jnp.dtype(self.cfg.frozen_dtype)
        kept = {name: p if self.trainable(name) else p.astype(frozen_dtype) for name, p in flat.items()}
        return placed(placement, kept)

    def trainable(self, name: str) -> bool:
        network, _, path = name.partition("/")
        if network == "pvar":
            assert self.model.prior is not None
            return pyramid_var.trainable(path, self.model.prior.train)
        return network == "denoiser"

    def group(self, name: str) -> str:
        return "base" if name.startswith("denoiser/unet/") else "new"

    def encode(self, flat: Flat, image: jax.Array) -> jax.Array:
        """Image -> latent, not quantised, without a gradient."""
        return jax.lax.stop_gradient(self.apply("first_stage", flat, image, method="encode"))

    def decode(self, flat: Flat, z_0: jax.Array) -> jax.Array:
        """Latent -> image through the codebook, as in inference; the gradient passes straight through."""
        return self.apply("first_stage", flat, z_0, method="decode")

    def closure(self, flat: Flat, lr: jax.Array, window: jax.Array) -> Denoise:
        """denoise(x, t) of the trained model, the prior computed once."""
        return denoiser(self, flat, self.model, "denoiser", "pvar", lr, window)

    @abc.abstractmethod
    def sample(self, denoise: Denoise, z_y: jax.Array, noise: jax.Array) -> jax.Array:
        """z_0 as the trained model is used."""

    def judge(self, flat: Flat, batch: Batch, key: jax.Array) -> Judgement:
        window = upsampled(batch)
        z_y = self.encode(flat, window)
        noise = jax.random.normal(key, z_y.shape, z_y.dtype)
        z_0 = self.sample(self.closure(flat, batch["lr"], window), z_y, noise)
        error = jnp.square(z_0 - self.encode(flat, batch["hr"])).mean(axis=(1, 2, 3))
        return Judgement(jnp.clip(self.decode(flat, z_0), -1, 1), {"latent_error": error})

    def export(self, flat: Flat) -> Export:
        items: dict[str, Params] = {
            name: self.tree(name, flat) for name in ("first_stage", "denoiser", "pvar") if name in self.networks
        }
        return Export("vdiffsr", self.model, {name: cast(params, jnp.float32) for name, params in items.items()})


def denoiser(
    task: Task, flat: Flat, model: VDiffSRConfig, network: str, prior: str, lr: jax.Array, window: jax.Array
) -> Denoise:
    """denoise(x, t) -> z_0 of one assembled model, with its prior read from `window` once."""
    cache: Any = None
    if model.prior is not None:
        cache = task.apply(network, flat, task.apply(prior, flat, window), method="encode_prior")

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        return task.apply(network, flat, x, t, lr, cache)

    return denoise
