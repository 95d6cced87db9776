"""Teacher of the model in the box: residual shifting on ResShift v3's four-step schedule, no prior.

    python train.py --config configs/box_teacher.py --workdir runs/box_teacher \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']"

For ResShift v1's fifteen steps: --set model.schedule.num_steps=15 --set model.schedule.min_noise_level=0.04
--set model.schedule.cap_sqrt_eta_1=true, here and in box_distill.py.
Hardware: two CPU cores, 3 GiB.
"""

from ml_collections import ConfigDict
from parts.box import DENOISER, PHOTOS, SCHEDULE, VQGAN


def get_config() -> ConfigDict:
    """One run of task `teacher`."""
    return ConfigDict(
        {
            "task": "teacher",
            "model": {"first_stage": VQGAN, "denoiser": DENOISER, "schedule": SCHEDULE, "prior": None},
            "data": PHOTOS | {"degradation": "mild"},
            "batch_size": 8,
            "steps": 1000,
            "optimizer": {"learning_rate": 5e-4, "b2": 0.99, "warmup": 100, "final": 0.02},
            "eval": {"every": 200, "batches": 4, "grid_rows": 8},
            "checkpoint": {"every": 100},
            "init_from": {"first_stage": "runs/box_vqgan/best"},
        }
    )
