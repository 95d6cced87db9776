"""VDiff-SR's student in the box: one step, from the four-step teacher, with the prior's adapter and LoRA trained.

    python train.py --config configs/box_distill.py --workdir runs/box_distill \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']" \\
        --set init_from.perceptual=runs/efficientnet_lite0

Ablations are one setting each: --set prior=none, --set prior.mode=shuffled, --set inverse=false, --set cogu=false,
--set cspa.same=false, --set cspa.cross=false, --set "cspa.levels=[4,5]", --set prior.train=adapter.
Hardware: two CPU cores, 4 GiB.
"""

from ml_collections import ConfigDict
from parts.box import DENOISER, PHOTOS, SCHEDULE, TOKENIZER, VAR, VQGAN


def get_config() -> ConfigDict:
    """One run of task `distill`."""
    return ConfigDict(
        {
            "task": "distill",
            "model": {
                "first_stage": VQGAN,
                "denoiser": DENOISER,
                "schedule": SCHEDULE,
                "prior": {"tokenizer": TOKENIZER, "var": VAR, "dim": 96, "lora_rank": 8, "train": "lora"},
                "cogu": {"max_dim": 48},
                "cspa": {"dim": 64},
            },
            "loss": {"distil": 0.5, "inverse": 0.05, "gt": 0.1, "gt_start": "sampled", "perceptual": 4.0},
            "data": PHOTOS | {"degradation": "mild"},
            "batch_size": 4,
            "steps": 1500,
            "optimizer": {
                "learning_rate": 3e-4,
                "new_learning_rate": 4e-4,
                "b2": 0.99,
                "warmup": 50,
                "final": 0.05,
            },
            "eval": {"every": 150, "batches": 4, "grid_rows": 8, "best": "perceptual", "allow_trained_metric": True},
            "checkpoint": {"every": 50},
            "init_from": {
                "first_stage": "runs/box_vqgan/best",
                "teacher": "runs/box_teacher/best",
                "tokenizer": "runs/box_tokenizer/best",
                "var": "runs/box_var/best",
                "perceptual": "runs/efficientnet_lite0",
            },
        }
    )
