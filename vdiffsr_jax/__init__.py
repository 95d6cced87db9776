"""VDiff-SR in JAX: one-step latent diffusion super-resolution (x4) guided by a visual autoregressive prior."""

__version__ = "0.1.0"
