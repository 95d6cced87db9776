"""The two students of the model in the box on one 80 GiB GPU, in eight minutes: the losses of configs/box.py with the
batches, the discriminator and the degradations that such a chip can afford.

    python train.py --config configs/box_gpu.py --workdir runs/box_gpu --minutes 8 \\
        --set "data.sources=['photos/train']" --set init_from.perceptual=checkpoints/lpips_vgg

Starts from the distill run of configs/box.py. Hardware: one H100 or H200, 16 CPU cores; docs/box.md has what was seen.
"""

import box
from ml_collections import ConfigDict

from vdiffsr_jax.config import to_dict
from vdiffsr_jax.data.config import PRESETS

# A fifth of the samples is only made smaller, so that a clean photo is nothing unheard of.
DEGRADATION = to_dict(PRESETS["mild"])
DEGRADATION["stages"][0]["prob"] = 0.8
FAITHFUL = {"distil": 0.0, "use_inverse": False, "perceptual": 0.2, "picture_size": 192}
SHARP = FAITHFUL | {"pixel": 2.0, "gt": 0.1, "perceptual": 1.0}
GAME = box.GAME | {"weight": 0.05, "channels": 64}


def get_config() -> ConfigDict:
    """{name: run}: a chain, in this order."""
    before = box.get_config().to_dict()
    start, student = "runs/box/distill/best", "{workdir}/distill/model"
    chain = {}
    for name, place, loss, rate, batch, share in (
        ("distill", start, FAITHFUL, 4e-4, 32, 2),
        ("sharp", student, SHARP | {"adversarial": GAME}, 2e-4, 32, 3),
    ):
        run = before[name]
        run |= {"batch_size": batch, "dtype": "bfloat16", "steps": 3000, "share": float(share), "seed": len(chain)}
        run["loss"] |= loss
        run["data"] |= {
            "degradation": "custom",
            "custom_degradation": DEGRADATION,
            "shrink": [1.0, 1.5],
            "candidates": 1,
            "synthetic_fraction": 0.1,
            "num_workers": 14,
            "cache_megabytes": 14 * 640,
            "prefetch": 28,
        }
        run["ema_decay"] = 0.998
        run["optimizer"] |= {"learning_rate": rate, "warmup": 100}
        run["eval"] = {"every": 0}  # its program would take a tenth of the time to compile
        run["checkpoint"] = {"every": 500, "keep_last": 6, "keep_best": 0}
        run["init_from"] = dict.fromkeys(("denoiser", "pvar", "first_stage"), place) | {
            "perceptual": "checkpoints/lpips_vgg"
        }
        chain[name] = run
    return ConfigDict(chain, sort_keys=False)
