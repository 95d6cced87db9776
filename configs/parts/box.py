"""What the runs that make the model in the box share: networks, schedule, losses and photos.

Groups of eight channels and more in every GroupNorm: with 32 groups these narrow networks lose the photo's colours.
"""

VQGAN = {
    "ch": 32,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "n_embed": 8192,
    "embed_dim": 4,
    "z_channels": 4,
    "num_groups": 4,
}
DENOISER = {
    "image_size": 32,
    "in_channels": 7,
    "out_channels": 4,
    "model_channels": 64,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": [1, 1, 1],
    "attention_resolutions": [32, 16, 8],
    "swin_embed_dim": 96,
    "window_size": 8,
    "num_groups": 8,
}
SCHEDULE = {"num_steps": 4, "min_noise_level": 0.2, "cap_sqrt_eta_1": False}
LEVELS = [1, 2, 3, 4, 6, 8]
TOKENIZER = {
    "ch": 32,
    "ch_mult": [1, 1, 2, 2, 2],
    "num_res_blocks": 1,
    "z_channels": 16,
    "vocab_size": 1024,
    "patch_nums": LEVELS,
    "num_groups": 4,
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
RECONSTRUCTION = {
    "l1": 1.5,
    "l1_levels": 5,
    "l1_colour": [1.0, 1.5, 4.0],
    "perceptual": 0.3,
    "codebook": 1.0,
    "gan": 0.0,
}
PHOTOS = {
    "sources": ["photos/train"],
    "valid_sources": ["photos/valid"],
    "crop_size": 128,
    "candidates": 2,
    "vertical_flips": True,
    "synthetic_fraction": 0.05,
}
