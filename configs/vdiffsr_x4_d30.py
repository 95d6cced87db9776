"""VDiff-SR x4 with VAR-d30: as `vdiffsr_x4.py`, frozen networks in bfloat16, everything sharded over eight chips.

VAR-d30 is made by `python convert_torch_weights.py var_d30.pth --output checkpoints/var_d30`.

    python train.py --config configs/vdiffsr_x4_d30.py --workdir runs/vdiffsr_x4_d30

Chips: 16 TPU v5e, two replicas of eight chips. Batch 64, 30,000 steps. docs/plan.md has what it needs.
"""

from ml_collections import ConfigDict
from vdiffsr_x4 import get_config as with_d16


def get_config() -> ConfigDict:
    """One run of task `distill`."""
    config = ConfigDict(with_d16())
    config.model.prior.var = ConfigDict({"depth": 30, "width": 1920, "num_heads": 30})
    config.frozen_dtype = "bfloat16"
    config.mesh = ConfigDict({"data": 2, "fsdp": 8})
    config.init_from.var = "checkpoints/var_d30"
    return config
