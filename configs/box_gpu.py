"""The model in the box on one 80 GiB GPU in nine minutes: configs/box.py in bfloat16, with batches for such a chip.

    python train.py --config configs/box_gpu.py --workdir runs/box_gpu --minutes 9 \\
        --set "data.sources=['shards/train']" --set "data.valid_sources=['shards/valid']"

The batches are estimates: no GPU has run this yet. docs/box.md says what to prepare.
Hardware: one H100 or H200, 16 CPU cores.
"""

import box
from ml_collections import ConfigDict

BATCHES = {"vqgan": 256, "tokenizer": 64, "var": 128, "align": 64, "teacher": 64, "distill": 32, "sharp": 24}


def get_config() -> ConfigDict:
    """{name: run}: the chain of configs/box.py."""
    chain = box.get_config().to_dict()
    for name, batch in BATCHES.items():
        run = chain[name]
        run |= {"batch_size": batch, "dtype": "bfloat16", "frozen_dtype": "bfloat16"}
        run["data"] = run["data"] | {"num_workers": 14, "candidates": 1}
    return ConfigDict(chain, sort_keys=False)
