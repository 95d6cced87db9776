"""VQGAN-f4, the first stage: images to small latents and back.

Source: Taming Transformers (arXiv:2012.09841) as trained for latent diffusion (arXiv:2112.10752).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int32

from vdiffsr_jax.config import VQGANConfig
from vdiffsr_jax.models.autoencoder import Decoder, Encoder, Reconstruction
from vdiffsr_jax.models.layers import Linear
from vdiffsr_jax.ops.quantize import codebook_usage, nearest_code, straight_through, vq_loss

# The weights that the published first stage was trained with: taming's `legacy` loss puts its beta = 0.25 on the
# codebook term, not on the commitment term as the paper does.
COMMITMENT, CODEBOOK = 1.0, 0.25
# What of its parameters does not touch latents: it may be tuned, all else must stay for whoever works on them.
DECODER = ("decoder/", "post_quant_conv/")


class VQGAN(nnx.Module):
    """Encoder, codebook and decoder. Images (b, h, w, 3) in [-1, 1]; latents (b, h / f, w / f, embed_dim), float32."""

    def __init__(self, cfg: VQGANConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.cfg = cfg
        self.encoder = Encoder(cfg, cfg.in_channels, cfg.z_channels, deep_attention=False, dtype=dtype, rngs=rngs)
        # A random 3x3 matrix is often nearly singular, and training never finds the lost latent dimension again.
        orthogonal = jax.nn.initializers.orthogonal()
        self.quant_conv = Linear(cfg.z_channels, cfg.embed_dim, dtype=dtype, kernel_init=orthogonal, rngs=rngs)
        # Codes spread as wide as fresh latents: a codebook that starts in one point keeps most of its codes unused.
        shape = (cfg.n_embed, cfg.embed_dim // cfg.num_codebooks)
        self.codebook = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32))
        self.post_quant_conv = Linear(cfg.embed_dim, cfg.z_channels, dtype=dtype, kernel_init=orthogonal, rngs=rngs)
        self.decoder = Decoder(cfg, cfg.z_channels, cfg.out_channels, deep_attention=False, dtype=dtype, rngs=rngs)

    def encode(self, image: Float[Array, "b H W 3"]) -> Float32[Array, "b H//{self.cfg.factor} W//{self.cfg.factor} c"]:
        """Image -> latent, not quantised; raises ValueError if a side does not divide by cfg.factor."""
        return self.quant_conv(self.encoder(image)).astype(jnp.float32)

    def quantize(
        self, z: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w c"], Int32[Array, "b h {self.cfg.num_codebooks}*w"], Float[Array, ""]]:
        """Nearest codes.

        Returns: z_q (the codes, with the gradient passed straight to z), indices (b, h, w num_codebooks) int32, and the
            loss mean (sg[z_q] - z)^2 + 0.25 mean (z_q - sg[z])^2.
        """
        b, h, w, c = z.shape
        indices = nearest_code(z.reshape(b, h, w * self.cfg.num_codebooks, -1), self.codebook[...])
        z_q = self.codebook[...][indices].reshape(b, h, w, c)
        return straight_through(z, z_q), indices, vq_loss(z, z_q, commitment=COMMITMENT, codebook=CODEBOOK)

    def decode(
        self, z: Float[Array, "b h w c"], quantize: bool = True
    ) -> Float32[Array, "b {self.cfg.factor}*h {self.cfg.factor}*w 3"]:
        """Latent -> image, not clamped; `quantize` first moves every latent to its nearest code."""
        if quantize:
            z = self.quantize(z)[0]
        return self.decoder(self.post_quant_conv(z)).astype(jnp.float32)

    def __call__(self, image: Float[Array, "b H W 3"]) -> Reconstruction:
        """Training forward: encode, quantise, decode."""
        z_q, indices, loss = self.quantize(self.encode(image))
        return Reconstruction(self.decode(z_q, quantize=False), loss, codebook_usage(indices, self.cfg.n_embed))
