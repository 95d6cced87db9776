"""VDiff-SR's student in the box: one step, from the four-step teacher, with the prior's adapter and LoRA trained.

    python train.py --config configs/box_distill.py --workdir runs/box_distill \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']" \\
        --set init_from.perceptual=runs/efficientnet_lite0

Ablations are one setting each: --set prior=none, --set prior.mode=shuffled, --set inverse=false, --set cogu=false,
--set cspa.same=false, --set cspa.cross=false, --set "cspa.levels=[4,5]", --set prior.train=adapter.
Hardware: two CPU cores, 4 GiB.
"""

VQGAN = {"ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "n_embed": 4096}
DENOISER = {
    "image_size": 32,
    "model_channels": 64,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": [1, 1, 1],
    "attention_resolutions": [32, 16, 8],
    "swin_embed_dim": 96,
    "window_size": 8,
}
SCHEDULE = {"num_steps": 4, "min_noise_level": 0.2, "cap_sqrt_eta_1": False}
LEVELS = [1, 2, 3, 4, 6, 8]
TOKENIZER = {
    "ch": 32,
    "ch_mult": [1, 1, 2, 2, 4],
    "num_res_blocks": 1,
    "z_channels": 16,
    "vocab_size": 1024,
    "patch_nums": LEVELS,
}
VAR = {
    "depth": 8,
    "width": 256,
    "num_heads": 8,
    "num_classes": 1,
    "patch_nums": LEVELS,
    "vocab_size": 1024,
    "code_dim": 16,
}


def get_config() -> dict:
    """One run of task `distill`."""
    return {
        "task": "distill",
        "model": {
            "first_stage": VQGAN,
            "denoiser": DENOISER,
            "schedule": SCHEDULE,
            "prior": {"tokenizer": TOKENIZER, "var": VAR, "dim": 128, "lora_rank": 8, "train": "lora"},
            "cogu": {"max_dim": 128},
            "cspa": {"dim": 96},
        },
        "loss": {"distil": 1.0, "inverse": 1.0, "gt": 1.0, "perceptual": 1.0},
        "data": {
            "sources": ["photos/train"],
            "valid_sources": ["photos/valid"],
            "crop_size": 128,
            "degradation": "mild",
            "synthetic_fraction": 0.05,
        },
        "batch_size": 8,
        "steps": 4000,
        "optimizer": {
            "learning_rate": 1e-4,
            "new_learning_rate": 4e-4,
            "b2": 0.95,
            "warmup": 200,
            "final": 0.05,
        },
        "eval": {"every": 500, "batches": 4, "grid_rows": 8, "best": "perceptual"},
        "checkpoint": {"every": 250},
        "init_from": {
            "first_stage": "runs/box_vqgan/best",
            "teacher": "runs/box_teacher/best",
            "tokenizer": "runs/box_tokenizer/best",
            "var": "runs/box_var/best",
            "perceptual": "runs/efficientnet_lite0",
        },
    }
