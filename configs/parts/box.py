"""What the runs that make the model in the box share: networks, schedule, losses and photos.

The first stage keeps its multiplications at the latents' resolution: pixels enter and leave as channels of 4x4 patches.
Without normalisation, because groups of few channels lose the photo's colours. A latent is four vectors of the same 512
codes, which takes an eighth of the comparisons of 8192 codes of four numbers each and is closer to no quantising.
"""

VQGAN = {
    "ch": 128,
    "ch_mult": [1],
    "patch_size": 4,
    "num_res_blocks": 2,
    "num_groups": 0,
    "attention": False,
    "n_embed": 512,
    "num_codebooks": 4,
    "embed_dim": 8,
    "z_channels": 8,
}
DENOISER = {
    "image_size": 64,
    "in_channels": 11,
    "out_channels": 8,
    "model_channels": 64,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": [1, 1, 1],
    "attention_resolutions": [64, 32, 16],
    "swin_embed_dim": 96,
    "window_size": 8,
    "num_groups": 8,
}
SCHEDULE = {"num_steps": 4, "min_noise_level": 0.2, "cap_sqrt_eta_1": False}
LEVELS = [1, 2, 3, 4, 6, 8, 12, 16]
TOKENIZER = {
    "ch": 64,
    "ch_mult": [1, 2, 2],
    "patch_size": 4,
    "num_res_blocks": 1,
    "num_groups": 0,
    "z_channels": 16,
    "vocab_size": 1024,
    "patch_nums": LEVELS,
}
VAR = {
    "depth": 4,
    "width": 128,
    "num_heads": 4,
    "num_classes": 1,
    "patch_nums": LEVELS,
    "vocab_size": 1024,
    "code_dim": 16,
}
PRIOR = {"tokenizer": TOKENIZER, "var": VAR, "dim": 96, "lora_rank": 0, "train": "adapter", "attention": "full"}
MODEL = {
    "first_stage": VQGAN,
    "denoiser": DENOISER,
    "schedule": SCHEDULE,
    "prior": PRIOR,
    "cogu": {"max_dim": 64},
    "cspa": {"dim": 64},
    "color_fix": "wavelet",
}
RECONSTRUCTION = {
    "l1": 1.0,
    "l1_levels": 3,
    "l1_colour": [1.0, 1.5, 4.0],
    "perceptual": 1.0,
    "codebook": 1.0,
    "gan": 0.05,
    "gan_adaptive": False,
    "discriminator_channels": 32,
}
PHOTOS = {
    "sources": ["photos/train"],
    "valid_sources": ["photos/valid"],
    "crop_size": 256,
    "degradation": "mild",
    "candidates": 2,
    "vertical_flips": True,
    "synthetic_fraction": 0.05,
}
