"""VDiff-SR x4 in windows of 512 pixels with VAR-d36: as `vdiffsr_x4_d30.py`, one crop of four times the area a chip.

ResShift's weights fit any size; how large their windows are is said when they are converted:

    echo '{"denoiser": {"image_size": 128}}' > 128.json
    python convert_torch_weights.py --denoiser resshift_realsrx4_s15_v1.pth --first-stage autoencoder_vq_f4.pth \\
        --config 128.json --output checkpoints/resshift_realsrx4_512
    python convert_torch_weights.py vae_ch160v4096z32.pth --preset vae_512 --output checkpoints/vae_ch160v4096z32_512
    python convert_torch_weights.py var_d36.pth --output checkpoints/var_d36
    python train.py --config configs/vdiffsr_x4_512.py --workdir runs/vdiffsr_x4_512

Chips: 64 TPU v5e, eight replicas of eight chips; 14.9 of 16 GiB (docs/plan.md). Batch 64, 30,000 steps.
"""

from ml_collections import ConfigDict
from vdiffsr_x4 import get_config as with_d16

LEVELS = [1, 2, 3, 4, 6, 9, 13, 18, 24, 32]


def get_config() -> ConfigDict:
    """One run of task `distill`."""
    config = ConfigDict(with_d16())
    config.model.denoiser = ConfigDict({"image_size": 128, "attention_resolutions": [128, 64, 32, 16]})
    config.model.prior.tokenizer = ConfigDict({"patch_nums": LEVELS})
    config.model.prior.var = ConfigDict(
        {"depth": 36, "width": 2304, "num_heads": 36, "shared_aln": True, "patch_nums": LEVELS}
    )
    config.data.crop_size = 512
    config.frozen_dtype = "bfloat16"
    config.mesh = ConfigDict({"data": 8, "fsdp": 8})
    config.init_from.first_stage = "checkpoints/resshift_realsrx4_512"
    config.init_from.teacher = "checkpoints/resshift_realsrx4_512"
    config.init_from.tokenizer = "checkpoints/vae_ch160v4096z32_512"
    config.init_from.var = "checkpoints/var_d36"
    return config
