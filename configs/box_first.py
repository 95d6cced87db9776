"""First stage of the model in the box from nothing: L1 alone, so that colours and shapes are there before texture.

    python train.py --config configs/box_first.py --workdir runs/box_first \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']"

`configs/box.py` starts from stages/first_stage, which began so. Hardware: two CPU cores, 3 GiB; .45 s a step if idle.
"""

from ml_collections import ConfigDict
from parts.box import PHOTOS, RECONSTRUCTION, VQGAN


def get_config() -> ConfigDict:
    """One run of task `vqgan`."""
    return ConfigDict(
        {
            "task": "vqgan",
            "model": VQGAN,
            "loss": RECONSTRUCTION | {"codebook": 0.25, "perceptual": 0.0, "gan": 0.0},
            "data": PHOTOS | {"crop_size": 64, "degradation": "none"},
            "batch_size": 8,
            "steps": 1000,
            "ema_decay": 0.99,
            "optimizer": {"learning_rate": 1e-3, "b2": 0.99, "warmup": 50, "final": 0.3},
            "eval": {"every": 250, "batches": 4, "grid_rows": 8},
            "checkpoint": {"every": 250},
        }
    )
