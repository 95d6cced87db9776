"""Task `vqgan`: the first stage, images to f4 latents and back."""

from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.tasks.autoencoder import AutoencoderTask
from vdiffsr_jax.training.tasks.task import refuse_if
from vdiffsr_jax.training.vqgan_game import AutoencoderLoss


class VQGANTask(AutoencoderTask[VQGANConfig, AutoencoderLoss]):
    """Crops of any size that divides by the downsampling factor."""

    network = kind = "vqgan"
    flag = "first_stage"
    module = VQGAN
    model_config = VQGANConfig

    def __init__(self, cfg: TrainConfig):
        super().__init__(cfg)
        crop, factor = cfg.data.crop_size, self.model.factor
        refuse_if(crop % factor > 0, f"data.crop_size={crop} must divide by {factor}, the model's downsampling factor")
