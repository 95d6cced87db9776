"""VAR of the model in the box: depth 4, width 128, over 130 tokens; no classes.

    python train.py --config configs/box_var.py --workdir runs/box_var \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']"

Then, so that it reads clean content out of degraded codes, a second run that starts from the first:

    python train.py --config configs/box_var.py --workdir runs/box_var_degraded --set loss.degraded=true \\
        --set init_from.var=runs/box_var/best ...

Hardware: two CPU cores, 2 GiB.
"""

from ml_collections import ConfigDict
from parts.box import PHOTOS, VAR


def get_config() -> ConfigDict:
    """One run of task `var`."""
    return ConfigDict(
        {
            "task": "var",
            "model": VAR,
            "loss": {"degraded": False},
            "data": PHOTOS | {"degradation": "mild"},
            "batch_size": 8,
            "steps": 500,
            "optimizer": {"learning_rate": 1e-3, "b2": 0.95, "warmup": 50, "weight_decay": 0.05, "final": 0.02},
            "eval": {"every": 125, "batches": 4, "grid_rows": 8},
            "checkpoint": {"every": 250},
            "init_from": {"tokenizer": "runs/box_tokenizer/best"},
        }
    )
