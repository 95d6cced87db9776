"""VAR of depth 16 (310 M parameters), next-scale prediction without classes.

    python train.py --config configs/var_d16.py --workdir runs/var_d16

The published `var_d16.pth` converts and is the usual start (init_from.var): then task `align` makes it read
clean content out of degraded codes (configs/vdiffsr_x4_chain.py).
Chips: 64 TPU v5e. Batch 768, 330,000 steps.
Hours: steps * batch * F / (chips * peak * MFU), F = 1.1 TFLOP: 3 x 301 G, tokenizer's encoder 0.2 T,
the forward of trained parts counted three times; at 40 % MFU of 197 TFLOP/s 15.6 hours.
Memory: 20 bytes per trained parameter (weight, average, two moments, gradient),
310 M: 6.2 GB; 11.8 of 16 GiB in all, with no block recomputed (docs/plan.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run of task `var`."""
    return ConfigDict(
        {
            "task": "var",
            "model": {},
            "data": {
                "sources": ["data/train"],
                "valid_sources": ["data/valid"],
                "crop_size": 256,
                "degradation": "none",
                "num_workers": 32,
            },
            "batch_size": 768,
            "steps": 330_000,
            "dtype": "bfloat16",
            "optimizer": {
                "learning_rate": 3e-4,
                "b1": 0.9,
                "b2": 0.95,
                "weight_decay": 0.05,
                "clip": 2.0,
                "warmup": 5000,
                "final": 0.1,
            },
            "mesh": {"data": 64},
            "eval": {"every": 5000, "batches": 2},
            "checkpoint": {"every": 1000},
            "init_from": {"tokenizer": "checkpoints/vae_ch160v4096z32"},
        }
    )
