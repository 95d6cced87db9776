"""First stage of the model in the box: VQGAN-f4 with 32 channels and 8192 codes of 4.

    python train.py --config configs/box_vqgan.py --workdir runs/box_vqgan \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']" \\
        --set init_from.perceptual=runs/efficientnet_lite0

Hardware: two CPU cores, 2 GiB.
"""

from ml_collections import ConfigDict
from parts.box import PHOTOS, RECONSTRUCTION, VQGAN


def get_config() -> ConfigDict:
    """One run of task `vqgan`."""
    return ConfigDict(
        {
            "task": "vqgan",
            "model": VQGAN,
            "loss": RECONSTRUCTION,
            "data": PHOTOS | {"crop_size": 64, "degradation": "none"},
            "batch_size": 8,
            "steps": 2600,
            "ema_decay": 0.999,
            "log_every": 50,
            "optimizer": {"learning_rate": 8e-4, "b2": 0.99, "warmup": 50, "final": 0.02},
            "eval": {"every": 200, "batches": 8, "grid_rows": 8, "best": "perceptual", "allow_trained_metric": True},
            "checkpoint": {"every": 250},
            "init_from": {"perceptual": "runs/efficientnet_lite0"},
        }
    )
