"""What teacher and student share: the assembled model, its latents and prior, its starting weights, its checkpoint."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import PriorConfig, VDiffSRConfig, to_dict
from vdiffsr_jax.diffusion import schedule
from vdiffsr_jax.models.assembled import Denoise, Items, assemble
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.models.prior import prior_class
from vdiffsr_jax.models.vdiffsr import from_unet
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.sharding import placed
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.task import Evaluation, Export, L, LossTask, Placement, prefixed, refuse_if, upsampled


def source_config(flag: str, directory: str | None, model: VDiffSRConfig) -> VDiffSRConfig:
    """A denoiser checkpoint's configuration as that of an assembled model; a plain UNet's has no prior.

    Raises: ConfigError if its UNet or (for the teacher) its schedule is not the model's.
    """
    kind, _, whole = sources.network_in(flag, directory)
    found: VDiffSRConfig = whole
    if kind == "swin_unet":
        found = dataclasses.replace(model, denoiser=whole.denoiser, schedule=whole.schedule, prior=None)
    sources.check_settings(flag, found.denoiser, model.denoiser, "model.denoiser")
    if flag == "teacher":
        sources.check_settings(flag, found.schedule, model.schedule, "model.schedule")
    return found


def read_window(model: VDiffSRConfig, window: jax.Array) -> jax.Array:
    """The windows (b, S, S, 3) that the model's prior reads: each sample's own, or by mode=shuffled the one before it.

    Raises: ValueError for a single sample, which has no other one.
    """
    if not model.is_shuffled:
        return window
    if window.shape[0] == 1:
        raise ValueError("prior.mode=shuffled gives each window another one's prior: it needs at least two")
    return jnp.roll(window, 1, axis=0)


def _as_used(found: PriorConfig, prior: PriorConfig) -> PriorConfig:
    """A checkpoint's prior with what a run may change: what is trained of it, and the control it serves."""
    return dataclasses.replace(found, train=prior.train, mode=prior.mode)


def _fits(found: PriorConfig, prior: PriorConfig) -> bool:
    return _as_used(found, prior) == prior


def _unit_settings(model: VDiffSRConfig) -> dict[str, Any]:
    """What the parameters of CoGU and CSPA depend on; `cspa.levels` is not among it."""
    assert model.prior is not None
    cspa = to_dict(dataclasses.replace(model.cspa, levels=()))
    return {
        "model.cogu": model.cogu,
        **{f"model.cspa.{name}": value for name, value in cspa.items()},
        "model.prior.dim": model.prior.dim,
        "model.prior.tokenizer.patch_nums": model.prior.tokenizer.patch_nums,
    }


class RestorerTask(LossTask[VDiffSRConfig, L]):
    """Denoiser and, with a prior, PyramidVAR are trained around a frozen first stage."""

    model_config = VDiffSRConfig
    start_flag = "denoiser"
    sampling_steps = 1

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        model = self.model
        crop, window = cfg.data.crop_size, model.tile_size * model.scale
        refuse_if(
            crop != window, f"data.crop_size={crop} must be one tile, model.denoiser.image_size * scale = {window}"
        )
        refuse_if(cfg.data.scale != model.scale, f"data.scale={cfg.data.scale} must be model.scale={model.scale}")
        first_stage = sources.network_in("first_stage", cfg.init_from.first_stage)[2]
        sources.check_settings("first_stage", first_stage, model.first_stage, "model.first_stage")
        refuse_if(model.sharp is not None, "model.sharp: a run trains one end; sampling.pack --sharp joins two runs")
        self.schedule = schedule.make(model.schedule)
        self.start = self._start_config()
        self._units_trained = self._keeps_units()  # `load` sees whether they were
        self.assembled = assemble(model, dtype=self.dtype, remat=cfg.remat)
        self.networks = dict(self.assembled.networks)
        if model.prior is not None:
            self._check_prior(model.prior)

    def _start_config(self) -> VDiffSRConfig | None:
        directory = getattr(self.cfg.init_from, self.start_flag)
        return None if directory is None else source_config(self.start_flag, directory, self.model)

    def _trained_prior(self) -> tuple[str, str] | None:
        """(flag, directory) the prior comes from whole: init_from.pvar, else what the denoiser was trained with.

        None where its parts are given instead (tokenizer and var, a fresh read-out around them).
        """
        start, prior = self.cfg.init_from, self.model.prior
        assert prior is not None
        if start.pvar is not None:
            return "pvar", start.pvar
        # Trained units read the prior of their own checkpoint, no other's.
        for flag, found in self.restorers()[: 1 if self._keeps_units() else None]:
            if found.prior is not None and prior.mode != "random_weights" and _fits(found.prior, prior):
                return flag, str(getattr(start, flag))
        return None

    def restorers(self) -> list[tuple[str, VDiffSRConfig]]:
        """(flag, configuration) of the assembled models that this run starts from, the first that counts first."""
        return [] if self.start is None else [(self.start_flag, self.start)]

    def _check_prior(self, prior: PriorConfig) -> None:
        start = self.cfg.init_from
        refuse_if(prior.var.folded, "model.prior.var.folded=True is for inference only")
        refuse_if(prior.mode == "shuffled" and self.cfg.batch_size < 2 * self.cfg.accumulate,
               "prior.mode=shuffled needs at least two samples at a time")  # fmt: skip
        if start.pvar is not None:
            found = sources.network_in("pvar", start.pvar)[2]
            sources.check_settings("pvar", _as_used(found, prior), prior, "model.prior")
            refuse_if(prior.mode == "random_weights", "prior.mode=random_weights starts from tokenizer and var")
        if self._trained_prior() is not None:
            return
        refuse_if(
            self._keeps_units(),
            f"init_from.{self.start_flag} has trained CoGU and CSPA, which read the prior that they were trained with, "
            "and model.prior is another: set init_from.pvar, or take the settings of model.prior from there",
        )
        for part in prior_class(prior).parts:
            found = sources.network_in(part, getattr(start, part))[2]
            sources.check_settings(part, found, getattr(prior, part), f"model.prior.{part}")

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        keys = [jax.random.fold_in(key, i) for i in range(2)]
        first_stage = str(self.cfg.init_from.first_stage)
        for flag, _ in self.restorers():
            sources.check_latents(flag, str(getattr(self.cfg.init_from, flag)), first_stage)
        flat = sources.read("first_stage", first_stage, "first_stage", placement, dtype=self.stored)
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
        if not self._keeps_units():
            params = from_unet(unet, self.model, key)
            if self.start.prior is not None and self.model.prior is not None:
                self.notes += (self._why_fresh(directory),)
        self._units_trained = self._keeps_units() and any(
            bool(jnp.any(leaf != 0)) for name, leaf in flatten(params).items() if "/w_o/" in name
        )
        return placed(placement, prefixed("denoiser", params))

    def _keeps_units(self) -> bool:
        """Whether CoGU and CSPA come from the starting checkpoint."""
        if self.start is None or self.start.prior is None or self.model.prior is None:
            return False
        if self.model.prior.mode == "random_weights":  # the control's units have never read anything else
            return False
        return _unit_settings(self.start) == _unit_settings(self.model)

    def _why_fresh(self, directory: str) -> str:
        assert self.start is not None
        there, here = _unit_settings(self.start), _unit_settings(self.model)
        other = [f"{name}={there[name]} there, {here[name]} here" for name in there if there[name] != here[name]]
        return (
            f"init_from.{self.start_flag}={directory}: its CoGU and CSPA are left there, new ones are trained "
            f"({'; '.join(other) or 'model.prior.mode=random_weights'})"
        )

    def _load_prior(self, key: jax.Array, placement: Placement) -> Flat:
        start, prior = self.cfg.init_from, self.model.prior
        assert prior is not None
        if (whole := self._trained_prior()) is not None:
            return sources.read(*whole, "pvar", placement, item="pvar", dtype=self.stored)
        self._prior_key = key
        made = prior_class(prior)
        parts = {p: sources.read_tree(p, str(getattr(start, p)), p, placement) for p in made.parts}
        flat = prefixed("pvar", made.assemble(parts, prior, key))
        return placed(placement, {name: p.astype(self.stored(name)) for name, p in flat.items()})

    def originals(self) -> Flat:
        start, prior = self.cfg.init_from, self.model.prior
        flat = prefixed("first_stage", sources.lazily("first_stage", start.first_stage))
        if prior is None:
            return flat
        if (whole := self._trained_prior()) is not None:
            return flat | prefixed("pvar", sources.lazily(*whole, item="pvar"))
        made = prior_class(prior)
        parts = {p: sources.lazily(p, getattr(start, p)) for p in made.parts}
        return flat | prefixed("pvar", made.assemble(parts, prior, self._prior_key))

    def trainable(self, name: str) -> bool:
        network, _, path = name.partition("/")
        if network == "pvar":
            assert self.model.prior is not None
            return prior_class(self.model.prior).trainable(path, self.model.prior)
        return network == "denoiser"

    def group(self, name: str) -> str:
        """base for what comes trained, new for what starts fresh: units whose W_o is zero, a read-out, LoRA."""
        network, _, path = name.partition("/")
        if network == "pvar":
            own_parts = path.startswith("var/") and not path.endswith(("/lora_a", "/lora_b"))
            return "base" if own_parts or self._trained_prior() is not None else "new"
        return "base" if path.startswith("unet/") or self._units_trained else "new"

    def encode(self, flat: Flat, image: jax.Array) -> jax.Array:
        """Image -> latent, not quantised, without a gradient."""
        return jax.lax.stop_gradient(self.assembled.encode(self.items(flat, ["first_stage"]), image))

    def encode_both(self, flat: Flat, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`encode` of two batches as one, the two of a sample side by side: each device keeps its own samples."""
        z = self.encode(flat, jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:]))
        z = z.reshape(a.shape[0], 2, *z.shape[1:])
        return z[:, 0], z[:, 1]

    def decode(self, flat: Flat, z_0: jax.Array) -> jax.Array:
        """Latent -> image through the codebook, as in inference; the gradient passes straight through."""
        return self.assembled.decode(self.items(flat, ["first_stage"]), z_0)

    def closure(self, flat: Flat, lr: jax.Array, window: jax.Array) -> Denoise:
        """denoise(x, t) of the trained model, the prior computed once."""
        return self.assembled.denoiser(self.items(flat), lr, read_window(self.model, window))

    def items(self, flat: Flat, names: Collection[str] | None = None) -> Items:
        """The parameters of the trained model as `models.assembled` takes them; all of it by default."""
        return {name: self.tree(name, flat) for name in names or self.assembled.networks}

    @abc.abstractmethod
    def sample(self, denoise: Denoise, z_y: jax.Array, noise: jax.Array) -> jax.Array:
        """z_0 as the trained model is used."""

    def evaluate(self, flat: Flat, batch: Batch, key: jax.Array) -> Evaluation:
        window = upsampled(batch)
        z_y = self.encode(flat, window)
        noise = jax.random.normal(key, z_y.shape, z_y.dtype)
        z_0 = self.sample(self.closure(flat, batch["lr"], window), z_y, noise)
        error = jnp.square(z_0 - self.encode(flat, batch["hr"])).mean(axis=(1, 2, 3))
        return Evaluation(jnp.clip(self.decode(flat, z_0), -1, 1), {"latent_error": error})

    def export(self, flat: Flat) -> Export:
        return Export("vdiffsr", self.model, dict(self.items(flat)))
