"""VDiff-SR x4: the one-step student with VAR-d16's prior, distilled from converted ResShift weights (default path).

    python train.py --config configs/vdiffsr_x4.py --workdir runs/vdiffsr_x4

Teacher and student start from the same converted weights; for SinSR's as the student's start, set
init_from.denoiser=checkpoints/sinsr. To distil the 15-step VDiff-SR teacher, set init_from.teacher to its model.
Chips: 16 TPU v5e. Batch 64, 30,000 steps.
Hours: steps * batch * F / (chips * peak * MFU), F = 5.4 TFLOP: teacher's chain 15 x 94 G, student 9 x 106 G,
prior 0.8 T, encodings 0.7 T, decoding and back 1.3 T, LPIPS 0.2 T,
the forward of trained parts counted three times; at 40 % MFU of 197 TFLOP/s 2.3 hours.
Memory: 20 bytes per trained parameter (weight, average, two moments, gradient),
132 M and 4.5 M of the prior: 2.7 GB, and 2.1 GB of frozen networks. Four crops a chip, no block recomputed:
14.2 of 16 GiB (docs/plan.md); remat=full computes the blocks again, 9.4 GiB and 8 % more work.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run of task `distill`."""
    return ConfigDict(
        {
            "task": "distill",
            "model": {"prior": {"train": "lora", "lora_rank": 16}},
            "loss": {"distil": 1.0, "inverse": 1.0, "gt": 1.0, "perceptual": 1.0},
            "data": {
                "sources": ["data/train"],
                "valid_sources": ["data/valid"],
                "crop_size": 256,
                "degradation": "realesrgan",
                "num_workers": 32,
            },
            "batch_size": 64,
            "steps": 30_000,
            "dtype": "bfloat16",
            "ema_decay": 0.999,
            "optimizer": {
                "learning_rate": 5e-5,
                "new_learning_rate": 2e-4,
                "b1": 0.9,
                "b2": 0.95,
                "warmup": 500,
                "clip": 1.0,
                "schedule": "constant",
            },
            "mesh": {"data": 16},
            "eval": {"every": 1000, "batches": 4, "metrics": ["lpips_alex"], "best": "lpips_alex"},
            "checkpoint": {"every": 500},
            "init_from": {
                "first_stage": "checkpoints/resshift_realsrx4",
                "teacher": "checkpoints/resshift_realsrx4",
                "tokenizer": "checkpoints/vae_ch160v4096z32",
                "var": "checkpoints/var_d16",
                "perceptual": "checkpoints/lpips_vgg",
            },
        }
    )
