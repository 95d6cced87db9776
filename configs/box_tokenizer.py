"""VAR tokenizer of the model in the box: 130 tokens in six levels, 1024 codes of 16, windows of 128 pixels.

    python train.py --config configs/box_tokenizer.py --workdir runs/box_tokenizer \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']" \\
        --set init_from.perceptual=runs/efficientnet_lite0

Hardware: two CPU cores, 2 GiB.
"""

from ml_collections import ConfigDict
from parts.box import PHOTOS, RECONSTRUCTION, TOKENIZER


def get_config() -> ConfigDict:
    """One run of task `tokenizer`."""
    return ConfigDict(
        {
            "task": "tokenizer",
            "model": TOKENIZER,
            "loss": RECONSTRUCTION,
            "data": PHOTOS | {"degradation": "none"},
            "batch_size": 4,
            "steps": 1000,
            "optimizer": {"learning_rate": 6e-4, "b2": 0.99, "warmup": 50, "final": 0.02},
            "eval": {"every": 250, "batches": 4, "grid_rows": 8},
            "checkpoint": {"every": 250},
            "init_from": {"perceptual": "runs/efficientnet_lite0"},
        }
    )
