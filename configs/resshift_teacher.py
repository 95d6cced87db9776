"""ResShift at the published size: 15-step residual-shifting teacher without a prior, 119 M parameters.

    python train.py --config configs/resshift_teacher.py --workdir runs/resshift_teacher

Published ResShift weights convert too (convert_torch_weights.py); this is for another domain or degradation.
Chips: 16 TPU v5e. Batch 64, 500,000 steps.
Hours: steps * batch * F / (chips * peak * MFU), F = 1.0 TFLOP: 3 x 94 G, two encodings 0.7 T,
the forward of trained parts counted three times; at 40 % MFU of 197 TFLOP/s 6.8 hours.
Memory: 20 bytes per trained parameter (weight, average, two moments, gradient),
119 M: 2.4 GB. Four crops a chip, no block recomputed: less than the 8.5 GiB of vdiffsr_teacher_15step.py.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run of task `teacher`."""
    return ConfigDict(
        {
            "task": "teacher",
            "model": {"prior": None},
            "data": {
                "sources": ["data/train"],
                "valid_sources": ["data/valid"],
                "crop_size": 256,
                "degradation": "realesrgan",
                "num_workers": 32,
            },
            "batch_size": 64,
            "steps": 500_000,
            "dtype": "bfloat16",
            "optimizer": {"learning_rate": 5e-5, "b1": 0.9, "b2": 0.999, "warmup": 5000, "final": 0.4},
            "mesh": {"data": 16},
            "eval": {"every": 5000, "batches": 4},
            "checkpoint": {"every": 2500},
            "init_from": {"first_stage": "checkpoints/autoencoder_vq_f4"},
        }
    )
