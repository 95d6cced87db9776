"""VDiff-SR's 15-step teacher: ResShift's UNet with CoGU and CSPA reading VAR-d16's prior pyramid.

    python train.py --config configs/vdiffsr_teacher_15step.py --workdir runs/vdiffsr_teacher_15step

Starts from converted ResShift weights (init_from.denoiser): fresh CoGU and CSPA leave their function unchanged.
Chips: 16 TPU v5e. Batch 64, 100,000 steps.
Hours: steps * batch * F / (chips * peak * MFU), F = 1.9 TFLOP: 3 x 106 G, prior 0.8 T (and back through VAR for LoRA),
two encodings 0.7 T,
the forward of trained parts counted three times; at 40 % MFU of 197 TFLOP/s 2.7 hours.
Memory: 20 bytes per trained parameter (weight, average, two moments, gradient),
132 M and 4.5 M of the prior: 2.7 GB, and 1.6 GB of frozen networks. Four crops a chip, no block recomputed:
8.5 of 16 GiB (docs/plan.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run of task `teacher`."""
    return ConfigDict(
        {
            "task": "teacher",
            "model": {"prior": {"train": "lora", "lora_rank": 16}},
            "data": {
                "sources": ["data/train"],
                "valid_sources": ["data/valid"],
                "crop_size": 256,
                "degradation": "realesrgan",
                "num_workers": 32,
            },
            "batch_size": 64,
            "steps": 100_000,
            "dtype": "bfloat16",
            "optimizer": {
                "learning_rate": 5e-5,
                "new_learning_rate": 2e-4,
                "b1": 0.9,
                "b2": 0.95,
                "warmup": 1000,
                "final": 0.1,
            },
            "mesh": {"data": 16},
            "eval": {"every": 2500, "batches": 4},
            "checkpoint": {"every": 1000},
            "init_from": {
                "first_stage": "checkpoints/resshift_realsrx4",
                "denoiser": "checkpoints/resshift_realsrx4",
                "tokenizer": "checkpoints/vae_ch160v4096z32",
                "var": "checkpoints/var_d16",
            },
        }
    )
