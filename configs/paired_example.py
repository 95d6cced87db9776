"""Training on pairs, small: a first stage and a teacher, two steps each, on the pairs that docs/paired.md makes.

    python train.py --config configs/paired_example.py --workdir runs/paired_example

Hardware: two CPU cores, half a minute to three.
"""

from ml_collections import ConfigDict
from smoke import AUTOENCODER_LOSS, VDIFFSR, VQGAN, run

PAIRS = {
    "sources": ["runs/pairs/hr"],
    "lr_sources": ["runs/pairs/lr"],
    "valid_sources": ["runs/pairs/hr"],
    "valid_lr_sources": ["runs/pairs/lr"],
    "crop_size": 32,
    "degradation": "paired",
}


def get_config() -> ConfigDict:
    """{name: run}: a chain, in this order."""
    teacher = run("teacher", VDIFFSR | {"prior": None}, {}, first_stage="{workdir}/vqgan/model")
    return ConfigDict({"vqgan": run("vqgan", VQGAN, AUTOENCODER_LOSS), "teacher": teacher | {"data": PAIRS}})
