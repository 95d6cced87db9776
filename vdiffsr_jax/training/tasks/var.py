"""Task `var`: next-scale prediction over the frozen tokenizer's codes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.config.ranges import Fraction
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.var import VAR
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat, Metrics
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.task import Evaluation, Export, LossTask, Placement, refuse_if


@dataclasses.dataclass(frozen=True)
class VARLoss:
    """Next-scale cross-entropy."""

    label_smoothing: Fraction = 0.0


class VARTask(LossTask[VARConfig, VARLoss]):
    """Cross-entropy of every level's tokens given all coarser levels; every image has the null class.

    Source: Visual Autoregressive Modeling (arXiv:2404.02905), eq. 5.
    """

    model_config = VARConfig
    loss_config = VARLoss
    best = "cross_entropy"

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        model = self.model
        tokenizer = sources.network_in("tokenizer", cfg.init_from.tokenizer)[2]
        for name, want, have in (
            ("patch_nums", tokenizer.patch_nums, model.patch_nums),
            ("vocab_size", tokenizer.vocab_size, model.vocab_size),
            ("code_dim", tokenizer.z_channels, model.code_dim),
        ):
            refuse_if(want != have, f"model.{name}={have} but the tokenizer {cfg.init_from.tokenizer} has {want}")
        window, crop = tokenizer.window_size, cfg.data.crop_size
        refuse_if(crop != window, f"data.crop_size={crop} must be the tokenizer's window, {window}")
        refuse_if(model.folded, "model.folded=True is for inference only")
        refuse_if(
            model.attention == "full",
            "model.attention=full reads the codes that it is to predict, in the next level's input; causal is for "
            "training VAR, full for model.prior.attention",
        )
        refuse_if(
            bool(model.lora_rank), "model.lora_rank is set by model.prior.lora_rank of teacher and distill; here 0"
        )
        if cfg.init_from.var is not None:
            sources.check_settings("var", sources.network_in("var", cfg.init_from.var)[2], model, "model")
        self.networks = {
            "var": build(VAR, model, dtype=self.dtype, remat=cfg.remat),
            "tokenizer": build(VARTokenizer, tokenizer, dtype=self.dtype),
        }

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        start, tokenizer = self.cfg.init_from.var, self.cfg.init_from.tokenizer
        flat = sources.read("tokenizer", str(tokenizer), "tokenizer", placement, dtype=self.stored)
        return flat | (
            self.fresh("var", key, placement) if start is None else sources.read("var", start, "var", placement)
        )

    def trainable(self, name: str) -> bool:
        return name.startswith("var/")

    def _tokens(self, flat: Flat, image: jax.Array) -> list[jax.Array]:
        f = self.method("tokenizer", VARTokenizer.encode)(flat, image)
        return self.method("tokenizer", VARTokenizer.tokens)(flat, f)

    def _predict(self, flat: Flat, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Logits (b, L, vocab) and target tokens (b, L)."""
        hr = batch["hr"]
        target = self._tokens(flat, hr)
        x_in = jax.lax.stop_gradient(self.method("tokenizer", VARTokenizer.var_input_and_f_hat)(flat, target)[0])
        null = jnp.full(hr.shape[:1], self.model.num_classes, jnp.int32)
        return self.apply("var", flat, null, x_in), jnp.concatenate(target, axis=1)

    def loss(self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Metrics]:
        logits, target = self._predict(flat, batch)
        vocab, smoothing = self.model.vocab_size, self.weights.label_smoothing
        wanted = optax.smooth_labels(jax.nn.one_hot(target, vocab), smoothing)
        accuracy = (logits.argmax(axis=-1) == target).mean()
        return optax.softmax_cross_entropy(logits, wanted).mean(), {"accuracy": accuracy}

    def evaluate(self, flat: Flat, batch: Batch, key: jax.Array) -> Evaluation:
        """The image of the likeliest token everywhere, given the true coarser levels; entropy per level too."""
        logits, target = self._predict(flat, batch)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        likeliest = logits.argmax(axis=-1)
        edges = np.cumsum([p * p for p in self.model.patch_nums])[:-1]
        image = self.method("tokenizer", VARTokenizer.tokens_to_image)(flat, jnp.split(likeliest, edges, axis=1))
        metrics = {"cross_entropy": entropy.mean(axis=1), "accuracy": (likeliest == target).mean(axis=1)}
        for k, level in enumerate(jnp.split(entropy, edges, axis=1)):
            metrics[f"cross_entropy_{self.model.patch_nums[k]}"] = level.mean(axis=1)
        return Evaluation(image, metrics)

    def export(self, flat: Flat) -> Export:
        return Export("var", self.model, {"var": self.tree("var", flat)})
