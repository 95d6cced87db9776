"""Task `align`: the prior learns to read what the HR photo holds out of the LR photo's codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vdiffsr_jax.config import PriorConfig, VARConfig
from vdiffsr_jax.config.ranges import Weight
from vdiffsr_jax.models.build import Params, build, flatten
from vdiffsr_jax.models.layers import Linear
from vdiffsr_jax.models.prior import Pyramid, prior_class
from vdiffsr_jax.models.pyramid_var import PyramidVAR
from vdiffsr_jax.models.var import VARHead
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.ops.resize import area
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat, Metrics
from vdiffsr_jax.training.sharding import placed
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks import sources
from vdiffsr_jax.training.tasks.task import Evaluation, Export, LossTask, Placement, prefixed, refuse_if, upsampled


class LinearReader(nnx.Module):
    """One linear map per level, from the prior's maps to the codes' space; training throws it away."""

    def __init__(self, cfg: PriorConfig, *, rngs: nnx.Rngs):
        z = cfg.tokenizer.z_channels
        self.level = nnx.List([Linear(cfg.dim, z, rngs=rngs) for _ in cfg.tokenizer.patch_nums])

    def __call__(self, pyramid: Pyramid) -> list[jax.Array]:
        """One (b, p_k, p_k, dim) per level -> one (b, p_k, p_k, z)."""
        return [linear(p) for linear, p in zip(self.level, pyramid, strict=True)]


class NullHead(VARHead):
    """VAR's head for the null class, without the blocks below it: these are the prior's."""

    def __init__(self, cfg: VARConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        super().__init__(cfg, dtype=dtype, rngs=rngs)
        self.class_embed = nnx.Param(jnp.zeros((cfg.num_classes + 1, cfg.width), jnp.float32))

    def __call__(self, hidden: Float[Array, "b n width"]) -> Float32[Array, "b n vocab"]:
        """The last block's output -> logits."""
        return self.logits(hidden, self.class_embed[...][-1:])


def level_means(values: jax.Array, patch_nums: Sequence[int]) -> list[jax.Array]:
    """(b, L) over the tokens of all levels -> the mean of each level, (b,)."""
    edges = np.cumsum([p * p for p in patch_nums])[:-1]
    return [part.mean(axis=1) for part in jnp.split(values, edges, axis=1)]


@dataclasses.dataclass(frozen=True)
class AlignLoss:
    """Weights of the cross-entropy against the HR's codes and of the error of its f_hat, both over all levels."""

    cross_entropy: Weight = 0.1
    f_hat: Weight = 0.5


class AlignTask(LossTask[PriorConfig, AlignLoss]):
    """Cross-entropy of VAR's own frozen head against the HR's codes, and |read(P_k) - f_hat(HR)|^2 at every level.

    VAR is teacher-forced on the LR window's codes, so what `prior.train` lets learn (LoRA and read-out) makes clean
    content of degraded codes before the denoiser reads it.
    As VarFormer and VARestorer do it.
    """

    model_config = PriorConfig
    loss_config = AlignLoss
    best = "f_hat"

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        self.prior = prior = self.model
        window, crop = prior.tokenizer.window_size, cfg.data.crop_size
        refuse_if(crop != window, f"data.crop_size={crop} must be the tokenizer's window, {window}")
        refuse_if(cfg.data.degradation == "none", "task align learns HR from LR: data.degradation=none makes no LR")
        refuse_if(prior_class(prior) is not PyramidVAR, f"task align is for model.kind=var, not {prior.kind}")
        refuse_if(prior.train == "none", "task align with model.train=none trains nothing; take adapter, lora or full")
        refuse_if(
            prior.train == "adapter" and self.weights.cross_entropy > 0,
            "loss.cross_entropy trains VAR, of which model.train=adapter trains nothing: set it to 0, or take lora",
        )
        refuse_if(
            prior.mode == "shuffled", "task align needs each window's own codes: model.mode=shuffled is a control"
        )
        refuse_if(prior.tap_layers[-1] != prior.var.depth,
               f"VAR's head reads its last block: the last of model.taps must be {prior.var.depth}")  # fmt: skip
        for part in PyramidVAR.parts:
            found = sources.network_in(part, getattr(cfg.init_from, part))[2]
            sources.check_settings(part, found, getattr(prior, part), f"model.{part}")
        self.networks = {
            "pvar": build(PyramidVAR, prior, dtype=self.dtype, remat=cfg.remat),
            "reader": build(LinearReader, prior),
            "head": build(NullHead, prior.var, dtype=self.dtype),
            "tokenizer": build(VARTokenizer, prior.tokenizer, dtype=self.dtype),
        }
        self.shared = {"pvar/tokenizer/": "tokenizer/"}

    def load(self, key: jax.Array, placement: Placement) -> Flat:
        start, self._prior_key = self.cfg.init_from, jax.random.fold_in(key, 0)
        parts = {p: sources.read_tree(p, str(getattr(start, p)), p, placement) for p in PyramidVAR.parts}
        flat = self._pvar(parts) | prefixed("tokenizer", parts["tokenizer"])
        flat |= prefixed("head", self.networks["head"].pick(flatten(parts["var"]), "VAR's head"))
        flat = {name: p.astype(self.stored(name)) for name, p in flat.items()}
        return placed(placement, flat) | self.fresh("reader", jax.random.fold_in(key, 1), placement)

    def originals(self) -> Flat:
        parts = {p: sources.lazily(p, getattr(self.cfg.init_from, p)) for p in PyramidVAR.parts}
        return self._pvar(parts) | prefixed("tokenizer", parts["tokenizer"])

    def _pvar(self, parts: Mapping[str, Params]) -> Flat:
        flat = prefixed("pvar", PyramidVAR.assemble(parts, self.prior, self._prior_key))
        return {name: p for name, p in flat.items() if self.name_in_flat(name) == name}

    def trainable(self, name: str) -> bool:
        network, _, path = name.partition("/")
        return network == "reader" or (network == "pvar" and PyramidVAR.trainable(path, self.prior))

    def group(self, name: str) -> str:
        """base for VAR's own weights, new for what starts fresh: LoRA, the read-out, the reader."""
        own = name.startswith("pvar/var/") and not name.endswith(("/lora_a", "/lora_b"))
        return "base" if own else "new"

    def _tokens(self, flat: Flat, image: jax.Array) -> list[jax.Array]:
        f = self.method("tokenizer", VARTokenizer.encode)(flat, image)
        return self.method("tokenizer", VARTokenizer.tokens)(flat, f)

    def _f_hat(self, flat: Flat, tokens: list[jax.Array]) -> list[jax.Array]:
        """The sum of all levels' codes at each level's size, one (b, p_k, p_k, z)."""
        f_hat = self.method("tokenizer", VARTokenizer.f_hats)(flat, tokens)[-1]
        return [area(f_hat, (p, p)) for p in self.prior.tokenizer.patch_nums]

    def _predict(self, flat: Flat, tokens: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        """Logits (b, L, vocab) and f_hat read at each level, from the LR's codes."""
        pyramid, hidden = self.method("pvar", PyramidVAR.read)(flat, tokens)
        return self.apply("head", flat, hidden), self.apply("reader", flat, pyramid)

    def loss(self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Metrics]:
        wanted = self._tokens(flat, batch["hr"])
        logits, read = self._predict(flat, self._tokens(flat, upsampled(batch)))
        target = jnp.concatenate(wanted, axis=1)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()
        error = jnp.stack([jnp.square(a - b).mean() for a, b in zip(read, self._f_hat(flat, wanted), strict=True)])
        accuracy = (logits.argmax(axis=-1) == target).mean()
        parts = {"cross_entropy": entropy, "f_hat": error.mean(), "accuracy": accuracy}
        return self.weights.cross_entropy * entropy + self.weights.f_hat * error.mean(), parts

    def evaluate(self, flat: Flat, batch: Batch, key: jax.Array) -> Evaluation:
        """The picture of the f_hat read at the finest level; per level the LR's own codes stand beside (`lr_...`)."""
        sizes = self.prior.tokenizer.patch_nums
        wanted, own = self._tokens(flat, batch["hr"]), self._tokens(flat, upsampled(batch))
        logits, read = self._predict(flat, own)
        target, given = jnp.concatenate(wanted, axis=1), jnp.concatenate(own, axis=1)
        goal, own_f_hat = self._f_hat(flat, wanted), self._f_hat(flat, own)
        by_level = {
            "accuracy": level_means(logits.argmax(axis=-1) == target, sizes),
            "lr_accuracy": level_means(given == target, sizes),
            "f_hat": [jnp.square(a - b).mean(axis=(1, 2, 3)) for a, b in zip(read, goal, strict=True)],
            "lr_f_hat": [jnp.square(a - b).mean(axis=(1, 2, 3)) for a, b in zip(own_f_hat, goal, strict=True)],
        }
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        metrics = {"cross_entropy": entropy.mean(axis=1)}
        for name, levels in by_level.items():
            metrics |= {f"{name}_{p}": value for p, value in zip(sizes, levels, strict=True)}
            metrics[name] = levels[-1]
        decode = self.method("tokenizer", VARTokenizer.decode)
        f_hats = {"LR's codes": own_f_hat[-1], "ours": read[-1], "HR's codes": goal[-1]}
        shown = {name: jnp.clip(decode(flat, f), -1, 1) for name, f in f_hats.items()}
        return Evaluation(shown.pop("ours"), metrics, shown)

    def export(self, flat: Flat) -> Export:
        return Export("pvar", self.prior, {"pvar": self.tree("pvar", flat)})
