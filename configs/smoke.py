"""All six tasks, two steps each, on synthetic pictures: does everything run here?

    python train.py --config configs/smoke.py

Each task starts from what the one before wrote. Hardware: two CPU cores, two to five minutes. Without --workdir the
results go to a temporary directory.
"""

from ml_collections import ConfigDict

LEVELS = [1, 2, 4, 8]
TOKENIZER = {"ch": 32, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "z_channels": 8, "vocab_size": 64,
             "patch_nums": LEVELS}  # fmt: skip
VAR = {"depth": 2, "width": 64, "num_heads": 2, "num_classes": 1, "vocab_size": 64, "code_dim": 8, "patch_nums": LEVELS}
VQGAN = {"ch": 32, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "n_embed": 64}
DENOISER = {"image_size": 8, "model_channels": 32, "channel_mult": [1], "num_res_blocks": [1],
            "attention_resolutions": [8], "swin_depth": 2, "swin_embed_dim": 32, "window_size": 4,
            "num_head_channels": 16}  # fmt: skip
PRIOR = {"tokenizer": TOKENIZER, "var": VAR, "dim": 32, "lora_rank": 2, "attention": "full"}
VDIFFSR = {
    "first_stage": VQGAN,
    "denoiser": DENOISER,
    "schedule": {"num_steps": 4, "min_noise_level": 0.2, "cap_sqrt_eta_1": False},
    "prior": PRIOR,
    "cogu": {"max_dim": 32},
    "cspa": {"dim": 32, "head_dim": 16, "window_size": 4},
}
AUTOENCODER_LOSS = {"perceptual": 0.0, "gan": 0.5, "gan_start": 1, "discriminator_channels": 32,
                    "discriminator_layers": 1}  # fmt: skip
STUDENT_LOSS = {"perceptual": 0.0, "pixel": 1.0, "train_decoder": True,
                "adversarial": {"weight": 0.01, "form": "relativistic", "r1": 1.0, "r2": 1.0, "matching": 0.1,
                                "channels": 32, "layers": 1}}  # fmt: skip


def run(task: str, model: dict, loss: dict, **init_from: str) -> dict:
    """Settings of one task; {workdir} is the directory of the whole chain."""
    return {
        "task": task,
        "model": model,
        "loss": loss,
        "data": {"synthetic_fraction": 1.0, "crop_size": 32, "degradation": "bicubic"},
        "batch_size": 4,
        "steps": 2,
        "log_every": 1,
        "optimizer": {"warmup": 1},
        "eval": {"every": 2, "batches": 1, "grid_rows": 4},
        "checkpoint": {"every": 2},
        "init_from": init_from,
    }


def get_config() -> ConfigDict:
    """{name: run}: a chain, in this order."""
    first_stage = "{workdir}/vqgan/model"
    parts = {"tokenizer": "{workdir}/tokenizer/model", "var": "{workdir}/var/model"}
    teacher = "{workdir}/teacher/model"
    return ConfigDict(
        {
            "vqgan": run("vqgan", VQGAN, AUTOENCODER_LOSS),
            "tokenizer": run("tokenizer", TOKENIZER, AUTOENCODER_LOSS),
            "var": run("var", VAR, {}, tokenizer=parts["tokenizer"]),
            "align": run("align", PRIOR, {}, **parts),
            "teacher": run("teacher", VDIFFSR | {"prior": None}, {}, first_stage=first_stage),
            "distill": run(
                "distill", VDIFFSR, STUDENT_LOSS, first_stage=first_stage, teacher=teacher, pvar="{workdir}/align/model"
            ),
        },
        sort_keys=False,
    )
