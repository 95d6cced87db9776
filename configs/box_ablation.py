"""Does the prior matter? One run of `distill` from the box's own denoiser without its CoGU and CSPA, so that every run
of the ablation begins with the same pictures, fresh units or none, and the same samples.

    python -m stages.plain_denoiser --output runs/plain
    python -m vdiffsr_jax.evaluation.ablation --config configs/box_ablation.py --workdir runs/ablation \\
        --switch prior=adapter,none -- --photos photos/valid

docs/box.md has the other switches. Hardware: two CPU cores, 4 GiB; 2 to 4 s a step.
"""

import box
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """One run."""
    run = box.get_config().to_dict()["distill"]
    run |= {"steps": 300, "seed": 0}
    run["loss"] |= {
        "distil": 0.0,
        "use_inverse": False,
        "gt": 0.0,
        "perceptual": 1.0,
        "picture_size": 64,
        "train_decoder": False,
    }
    run["optimizer"] |= {"learning_rate": 2e-4, "new_learning_rate": 1e-3, "warmup": 20}
    run["ema_decay"] = 0.98
    run["eval"] = {"every": 0}
    run["init_from"] = {
        "denoiser": "runs/plain",
        "first_stage": "vdiffsr_jax/assets/box",
        "pvar": "stages/prior",
        "perceptual": "checkpoints/lpips_vgg",
    }
    return ConfigDict(run)
