"""Teacher of the model in the box: residual shifting on ResShift v3's four-step schedule, no prior.

    python train.py --config configs/box_teacher.py --workdir runs/box_teacher \\
        --set "data.sources=['photos/train']" --set "data.valid_sources=['photos/valid']"

For ResShift v1's fifteen steps: --set model.schedule.num_steps=15 --set model.schedule.min_noise_level=0.04
--set model.schedule.cap_sqrt_eta_1=true, here and in box_distill.py.
Hardware: two CPU cores, 3 GiB.
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
DATA = {
    "sources": ["photos/train"],
    "valid_sources": ["photos/valid"],
    "crop_size": 128,
    "degradation": "mild",
    "synthetic_fraction": 0.05,
}


def get_config() -> dict:
    """One run of task `teacher`."""
    return {
        "task": "teacher",
        "model": {"first_stage": VQGAN, "denoiser": DENOISER, "schedule": SCHEDULE, "prior": None},
        "data": DATA,
        "batch_size": 8,
        "steps": 8000,
        "optimizer": {"learning_rate": 3e-4, "b2": 0.99, "warmup": 200, "final": 0.02},
        "eval": {"every": 500, "batches": 4, "grid_rows": 8},
        "checkpoint": {"every": 250},
        "init_from": {"first_stage": "runs/box_vqgan/best"},
    }
