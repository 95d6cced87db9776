"""ResShift fine-tuned on pairs of LR and HR photos (docs/paired.md): nothing is degraded by program.

    python train.py --config configs/paired.py --workdir runs/paired

Starts from converted ResShift weights. Chips: 16 TPU v5e. Batch 64, 50,000 steps.
Hours: a tenth of configs/resshift_teacher.py's, which has the same step. Memory: as there.
"""

from ml_collections import ConfigDict
from resshift_teacher import get_config as resshift_teacher


def get_config() -> ConfigDict:
    """One run of task `teacher`."""
    config = resshift_teacher()
    config["data"] = {
        "sources": ["data/pairs/train/hr"],
        "lr_sources": ["data/pairs/train/lr"],
        "valid_sources": ["data/pairs/valid/hr"],
        "valid_lr_sources": ["data/pairs/valid/lr"],
        "crop_size": 256,
        "degradation": "paired",
        "num_workers": 32,
    }
    config["steps"] = 50_000
    config["init_from"] = {"first_stage": "checkpoints/resshift_realsrx4", "denoiser": "checkpoints/resshift_realsrx4"}
    return config
