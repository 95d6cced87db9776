"""VAR's tokenizer at the published size: 109 M parameters, 680 tokens of 4096 codes.

    python train.py --config configs/var_tokenizer.py --workdir runs/var_tokenizer

Needs init_from.perceptual. The published `vae_ch160v4096z32` converts too; training is for another domain.
Chips: 16 TPU v5e. Batch 128, 250,000 steps.
Hours: steps * batch * F / (chips * peak * MFU), F = 2.0 TFLOP: 3 x 563 G, LPIPS 0.2 T, discriminator 0.1 T,
the forward of trained parts counted three times; at 40 % MFU of 197 TFLOP/s 14.1 hours.
Memory: 20 bytes per trained parameter (weight, average, two moments, gradient),
109 M + 3 M of the discriminator: 2.2 GB. Eight crops a chip in two accumulated parts.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run of task `tokenizer`."""
    return ConfigDict(
        {
            "task": "tokenizer",
            "model": {},
            "loss": {"l1": 1.0, "perceptual": 1.0, "codebook": 1.0, "gan": 0.5, "gan_start": 50_000},
            "data": {
                "sources": ["data/train"],
                "valid_sources": ["data/valid"],
                "crop_size": 256,
                "degradation": "none",
                "num_workers": 16,
            },
            "batch_size": 128,
            "accumulate": 2,
            "steps": 250_000,
            "dtype": "bfloat16",
            "optimizer": {"learning_rate": 1e-4, "b1": 0.5, "b2": 0.9, "warmup": 2000, "schedule": "constant"},
            "mesh": {"data": 16},
            "eval": {"every": 5000, "batches": 4},
            "checkpoint": {"every": 2500},
            "init_from": {"perceptual": "checkpoints/lpips_vgg"},
        }
    )
