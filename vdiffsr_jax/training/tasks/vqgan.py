"""Task `vqgan`: the first stage, images to f4 latents and back."""

from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.training.tasks.autoencoder import AutoencoderTask
from vdiffsr_jax.training.vqgan_game import AutoencoderLoss


class VQGANTask(AutoencoderTask[VQGANConfig, AutoencoderLoss]):
    """Crops of any size that divides by the downsampling factor."""

    network = kind = "vqgan"
    flag = "first_stage"
    module = VQGAN
    model_config = VQGANConfig
