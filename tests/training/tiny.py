"""The seven runs of configs/box.py, each task with its real terms, of networks that compile in seconds."""

from __future__ import annotations

from typing import Any

LEVELS = [1, 2, 4]
VQGAN = {"ch": 16, "ch_mult": [1], "patch_size": 4, "num_res_blocks": 1, "num_groups": 0, "attention": False,
         "n_embed": 16, "num_codebooks": 2, "embed_dim": 4, "z_channels": 4}  # fmt: skip
TOKENIZER = {"ch": 16, "ch_mult": [1], "patch_size": 4, "num_res_blocks": 1, "num_groups": 4, "attention": False,
             "z_channels": 8, "vocab_size": 16, "patch_nums": LEVELS}  # fmt: skip
VAR = {"depth": 1, "width": 16, "num_heads": 1, "num_classes": 1, "vocab_size": 16, "code_dim": 8,
       "patch_nums": LEVELS}  # fmt: skip
DENOISER = {"image_size": 4, "in_channels": 7, "out_channels": 4, "model_channels": 16, "channel_mult": [1],
            "num_res_blocks": [1], "attention_resolutions": [4], "swin_depth": 1, "swin_embed_dim": 16,
            "window_size": 4, "num_head_channels": 16, "num_groups": 4}  # fmt: skip
PRIOR = {"tokenizer": TOKENIZER, "var": VAR, "dim": 16, "lora_rank": 2, "attention": "full"}
MODEL = {
    "first_stage": VQGAN,
    "denoiser": DENOISER,
    "schedule": {"num_steps": 2, "min_noise_level": 0.2, "cap_sqrt_eta_1": False},
    "prior": PRIOR,
    "cogu": {"max_dim": 16},
    "cspa": {"dim": 16, "head_dim": 16, "window_size": 4},
}
RECONSTRUCTION = {"perceptual": 0.0, "gan": 0.05, "gan_adaptive": False, "discriminator_channels": 32,
                  "discriminator_layers": 1}  # fmt: skip
GAME = {"weight": 0.02, "form": "relativistic", "r1": 1.0, "r2": 1.0, "matching": 0.1, "channels": 32, "layers": 1}
STUDENT = {"perceptual": 0.0, "pixel": 1.0}


def run(task: str, model: dict[str, Any], loss: dict[str, Any], **init_from: str) -> dict[str, Any]:
    """Settings of one run; {workdir} is the directory of the chain."""
    return {
        "task": task,
        "model": model,
        "loss": loss,
        "data": {"synthetic_fraction": 1.0, "crop_size": 16, "degradation": "bicubic"},
        "batch_size": 2,
        "steps": 4,
        "log_every": 1,
        "optimizer": {"warmup": 2},
        "eval": {"every": 0},
        "checkpoint": {"every": 2},
        "init_from": init_from,
    }


def chain() -> dict[str, dict[str, Any]]:
    """{name: run}, in an order in which each finds what it starts from."""
    parts = {"tokenizer": "{workdir}/tokenizer/model", "var": "{workdir}/var/model"}
    guided = {"first_stage": "{workdir}/vqgan/model", "teacher": "{workdir}/teacher/model"}
    warm = {"denoiser": "{workdir}/distill/model", "pvar": "{workdir}/distill/model"}
    sharp = STUDENT | {"distil": 0.0, "train_decoder": True, "adversarial": GAME}
    return {
        "vqgan": run("vqgan", VQGAN, RECONSTRUCTION),
        "tokenizer": run("tokenizer", TOKENIZER, RECONSTRUCTION | {"gan": 0.0}),
        "var": run("var", VAR, {}, tokenizer=parts["tokenizer"]),
        "align": run("align", PRIOR, {}, **parts),
        "teacher": run("teacher", MODEL | {"prior": None}, {}, first_stage=guided["first_stage"]),
        "distill": run("distill", MODEL, STUDENT, pvar="{workdir}/align/model", **guided),
        "sharp": run("distill", MODEL, sharp, **warm, **guided),
    }
