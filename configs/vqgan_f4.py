"""First stage at the published size: VQ-f4, 55 M parameters, 8192 codes of 3.

    python train.py --config configs/vqgan_f4.py --workdir runs/vqgan_f4

Needs init_from.perceptual: LPIPS converted by convert_torch_weights.py. The published weights convert too, so that
this is needed only for another kind of pictures.
Chips: 16 TPU v5e. Batch 64, 300,000 steps.
Hours: steps * batch * F / (chips * peak * MFU), F = 3.1 TFLOP: 3 x 924 G, LPIPS 0.2 T, discriminator 0.1 T,
the forward of trained parts counted three times; at 40 % MFU of 197 TFLOP/s 13.1 hours.
Memory: 20 bytes per trained parameter (weight, average, two moments, gradient),
55 M + 3 M of the discriminator: 1.2 GB. Four crops a chip, activations in bfloat16.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run of task `vqgan`."""
    return ConfigDict(
        {
            "task": "vqgan",
            "model": {},
            "loss": {"l1": 1.0, "perceptual": 1.0, "codebook": 1.0, "gan": 0.75, "gan_start": 50_000},
            "data": {
                "sources": ["data/train"],
                "valid_sources": ["data/valid"],
                "crop_size": 256,
                "degradation": "none",
                "num_workers": 16,
            },
            "batch_size": 64,
            "steps": 300_000,
            "dtype": "bfloat16",
            "optimizer": {
                "learning_rate": 1e-4,
                "discriminator_learning_rate": 1e-4,
                "b1": 0.5,
                "b2": 0.9,
                "warmup": 2000,
                "schedule": "constant",
            },
            "mesh": {"data": 16},
            "eval": {"every": 5000, "batches": 8},
            "checkpoint": {"every": 2500},
            "init_from": {"perceptual": "checkpoints/lpips_vgg"},
        }
    )
