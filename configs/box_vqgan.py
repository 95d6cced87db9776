"""First stage of the model in the box: VQGAN-f4 with 32 channels and 4096 codes of 3.

    python train.py --config configs/box_vqgan.py --workdir runs/box_vqgan \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']" \\
        --set init_from.perceptual=runs/efficientnet_lite0

Hardware: two CPU cores, 2 GiB.
"""

from parts.box import PHOTOS, VQGAN


def get_config() -> dict:
    """One run of task `vqgan`."""
    return {
        "task": "vqgan",
        "model": VQGAN,
        "loss": {"l1": 1.0, "perceptual": 0.2, "codebook": 1.0, "gan": 0.0},
        "data": PHOTOS | {"crop_size": 96, "degradation": "none"},
        "batch_size": 8,
        "steps": 3000,
        "ema_decay": 0.999,
        "log_every": 50,
        "optimizer": {"learning_rate": 8e-4, "b2": 0.99, "warmup": 100, "final": 0.02},
        "eval": {"every": 250, "batches": 4, "grid_rows": 8},
        "checkpoint": {"every": 250},
        "init_from": {"perceptual": "runs/efficientnet_lite0"},
    }
