"""A Swin UNet of two levels, small enough to run in a moment."""

from vdiffsr_jax.config import SwinUNetConfig

SMALL_UNET = SwinUNetConfig(
    image_size=8,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=(1, 1),
    attention_resolutions=(8,),
    num_head_channels=16,
    swin_depth=1,
    swin_embed_dim=32,
    window_size=4,
    mlp_ratio=2.0,
)
