"""The model in the box, all its tasks in one command, each starting from the one before.

    python train.py --config configs/box.py --workdir runs/box --hours 12 \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']" \\
        --set init_from.perceptual=checkpoints/lpips_vgg

Trained with LPIPS-VGG, judged by LPIPS-Alex (`python evaluate.py --list-metrics` says how to get both).
The time is divided by SHARES; runs/box/steps.json then says how many steps each run took, and
`--steps runs/box/steps.json` in place of `--hours` repeats them. Without either the steps below count.
Hardware: two CPU cores, 8 GiB, patience; docs/box.md has what was measured. For a GPU: configs/box_gpu.py.
"""

from ml_collections import ConfigDict
from parts.box import MODEL, PHOTOS, PRIOR, RECONSTRUCTION, TOKENIZER, VAR, VQGAN

# Parts of a chain's time; first the first stage, which is every later run's ceiling.
SHARES = {"vqgan": 5, "tokenizer": 2, "var": 1, "align": 1, "teacher": 3, "distill": 4, "sharp": 4}
# Without a perceptual distance, which would make a step five times as long: what it has to learn is colours and codes.
CODES = {
    "gan": 0.0,
    "perceptual": 0.0,
    "l1_levels": 5,
    "quantize_warmup": 500,
    "revive_every": 10,
    "revive_until": 2000,
}
# This tokenizer's f_hat is small (squared errors of a hundredth); so small a VAR has little to lose by learning whole.
ALIGN = {"cross_entropy": 0.03, "f_hat": 30.0}
# Near the photo first: LPIPS before that makes squares of LR pixels (docs/box.md).
STUDENT = {
    "distil": 0.5,
    "inverse": 0.05,
    "gt": 0.5,
    "gt_start": "sampled",
    "perceptual": 0.0,
    "pixel": 4.0,
    "pixel_size": 1,  # means of 2x2 let the decoder draw dots at the latents' pitch
    "train_decoder": True,
}
SHARP = {"distil": 0.0, "gt": 0.1, "perceptual": 0.8, "picture_size": 192}
GAME = {"weight": 0.02, "form": "relativistic", "r1": 1.0, "r2": 1.0, "matching": 0.1, "channels": 32}


def run(task: str, model: dict, loss: dict, rate: float, batch: int, steps: int, **init_from: str) -> dict:
    """Settings of one run; {workdir} is the directory of the chain."""
    return {
        "task": task,
        "model": model,
        "loss": loss,
        "data": PHOTOS,
        "batch_size": batch,
        "steps": steps,
        "ema_decay": 0.995,
        "optimizer": {"learning_rate": rate, "b2": 0.99, "warmup": 50, "final": 0.05},
        "eval": {"every": max(1, steps // 10), "batches": 4, "grid_rows": 8},
        "checkpoint": {"every": 100},
        "init_from": init_from,
    }


def get_config() -> ConfigDict:
    """{name: run}: a chain, in this order."""
    lpips = "checkpoints/lpips_vgg"
    first, teacher = "{workdir}/vqgan/best", "{workdir}/teacher/best"
    parts = {"tokenizer": "{workdir}/tokenizer/best", "var": "{workdir}/var/best"}
    student = "{workdir}/distill/best"
    warm = {"denoiser": student, "pvar": student, "first_stage": student, "perceptual": lpips}
    # What the two students share is stored once: the prior of the first serves both.
    sharper = MODEL | {"prior": PRIOR | {"train": "none"}}
    chain = {
        "vqgan": run("vqgan", VQGAN, RECONSTRUCTION, 4e-4, 8, 6000, first_stage="stages/first_stage", perceptual=lpips),
        "tokenizer": run("tokenizer", TOKENIZER, RECONSTRUCTION | CODES, 6e-4, 4, 3000),
        "var": run("var", VAR, {}, 1e-3, 8, 1500, tokenizer=parts["tokenizer"]),
        "align": run("align", PRIOR | {"train": "full"}, ALIGN, 1e-3, 4, 1500, **parts),
        "teacher": run("teacher", MODEL | {"prior": None}, {}, 5e-4, 4, 3000, first_stage=first),
        "distill": run(
            "distill", MODEL, STUDENT, 2e-4, 2, 3000, pvar="{workdir}/align/best", teacher=teacher, first_stage=first
        ),
        "sharp": run("distill", sharper, STUDENT | SHARP | {"adversarial": GAME}, 2e-4, 2, 3000, **warm),
    }
    chain["vqgan"]["data"] = PHOTOS | {"crop_size": 64, "degradation": "none"}
    for name in ("vqgan", "tokenizer", "distill", "sharp"):
        chain[name]["eval"] |= {"best": "lpips_alex", "metrics": ["lpips_alex"]}
    chain["distill"]["eval"]["best"] = "psnr_y"
    for seed, (name, share) in enumerate(SHARES.items()):
        chain[name] |= {"share": float(share), "seed": seed}  # no run draws the crops and noise of another
    return ConfigDict(chain, sort_keys=False)
