"""VDiff-SR x4 from converted weights: the prior aligned, the student distilled, then sharpened, in one command.

    python train.py --config configs/vdiffsr_x4_chain.py --workdir runs/vdiffsr_x4_chain [--hours 12]

Chips: 16 TPU v5e, as configs/vdiffsr_x4.py, whose docstring counts the work. Nobody has run this at full size yet.
"""

import vdiffsr_x4
from ml_collections import ConfigDict

PRIOR = {"train": "lora", "lora_rank": 16, "attention": "full"}
GAME = {"weight": 0.02, "form": "relativistic", "r1": 1.0, "r2": 1.0, "matching": 0.1}


def get_config() -> ConfigDict:
    """{name: run}: a chain, in this order."""
    distill = vdiffsr_x4.get_config().to_dict()
    start = distill["init_from"]
    parts = {"tokenizer": start["tokenizer"], "var": start["var"]}
    guided = {name: start[name] for name in ("first_stage", "teacher", "perceptual")}
    model = distill["model"] | {"prior": PRIOR}
    warm = {"denoiser": "{workdir}/distill/best", "pvar": "{workdir}/distill/best"}
    loss = distill["loss"] | {"perceptual": 2.0}
    sharp = loss | {"distil": 0.0, "pixel": 1.0, "train_decoder": True, "adversarial": GAME}
    align = {"task": "align", "model": PRIOR, "loss": {}, "steps": 20_000, "init_from": parts, "share": 1.0}
    align["eval"] = distill["eval"] | {"metrics": [], "best": "f_hat"}
    return ConfigDict(
        {
            "align": distill | align,
            "distill": distill
            | {"model": model, "init_from": guided | {"pvar": "{workdir}/align/best"}, "share": 3.0}
            | {"seed": 1},  # other crops and noise than align's, and than distill's for sharp
            "sharp": distill
            | {"model": model, "loss": sharp, "init_from": guided | warm, "steps": 10_000, "share": 2.0}
            | {"seed": 2, "remat": "full"},  # without, 15.3 of 16 GiB
        },
        sort_keys=False,
    )
