"""Task `tokenizer`: VAR's multi-scale residual tokenizer."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import VARTokenizerConfig
from vdiffsr_jax.config.ranges import Whole
from vdiffsr_jax.models.autoencoder import Reconstruction
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks.autoencoder import AutoencoderTask
from vdiffsr_jax.training.tasks.task import refuse_if
from vdiffsr_jax.training.vqgan_game import AutoencoderLoss

CODEBOOK = "tokenizer/quantizer/codebook"


@dataclasses.dataclass(frozen=True)
class TokenizerLoss(AutoencoderLoss):
    """The autoencoder's terms, and two helps for a codebook that starts from nothing.

    Every `revive_every` steps (0: never), before step `revive_until`, codes that the batch does not use are drawn anew
    from what it holds (`VARTokenizer.revived`). What the decoder reads goes from the features to their codes within the
    first `quantize_warmup` steps: encoder and decoder agree on features first.
    """

    revive_every: Whole = 0
    revive_until: Whole = 0
    quantize_warmup: Whole = 0


class TokenizerTask(AutoencoderTask[VARTokenizerConfig, TokenizerLoss]):
    """Crops are exactly one window: levels are absolute."""

    network = "tokenizer"
    kind = "var_tokenizer"
    flag = "tokenizer"
    module = VARTokenizer
    model_config = VARTokenizerConfig
    loss_config = TokenizerLoss

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        crop, window = cfg.data.crop_size, self.model.window_size
        refuse_if(crop != window, f"data.crop_size={crop} must be the tokenizer's window, {window}")
        if self.weights.revive_every:
            self.after_update = self.revive

    def reconstruct(self, params: Flat, image: jax.Array, step: jax.Array) -> Reconstruction:
        warmup = self.weights.quantize_warmup
        share = jnp.clip(step / warmup, 0.0, 1.0) if warmup else None
        made: Reconstruction = self.apply(self.network, params, image, quantized=share)
        return made

    def revive(self, params: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> Flat:
        """`params` with the codebook revived, in the steps that do so."""
        revived = self.method("tokenizer", VARTokenizer.revived)
        now = (step % self.weights.revive_every == 0) & (step < self.weights.revive_until)
        codebook = jax.lax.cond(now, lambda: revived(params, batch["hr"], key), lambda: params[CODEBOOK])
        return params | {CODEBOOK: codebook}
