"""Task `tokenizer`: VAR's multi-scale residual tokenizer."""

from vdiffsr_jax.config import VARTokenizerConfig
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.tasks.autoencoder import AutoencoderTask
from vdiffsr_jax.training.tasks.task import refuse_if


class TokenizerTask(AutoencoderTask[VARTokenizerConfig]):
    """Crops are exactly one window: levels are absolute."""

    network = "tokenizer"
    kind = "var_tokenizer"
    flag = "tokenizer"
    module = VARTokenizer
    model_config = VARTokenizerConfig

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        crop, window = cfg.data.crop_size, self.model.window_size
        refuse_if(crop != window, f"data.crop_size={crop} must be the tokenizer's window, {window}")
