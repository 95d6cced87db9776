"""VAR's tokenizer: an autoencoder whose features are written as residual codes, level by level, coarse to fine.

Source: Visual Autoregressive Modeling (arXiv:2404.02905), section 3.2, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int, Int32, PRNGKeyArray

from vdiffsr_jax.config import VARTokenizerConfig
from vdiffsr_jax.models.autoencoder import Decoder, Encoder, Reconstruction
from vdiffsr_jax.models.layers import Conv
from vdiffsr_jax.ops import precision
from vdiffsr_jax.ops.quantize import codebook_usage, nearest_code, straight_through, vq_loss
from vdiffsr_jax.ops.resize import area, bicubic

Tokens = Int[Array, "b _"]  # of one level, p_k squared
Features = Float[Array, "b S S z"]
CodeMap = Float32[Array, "b S S z"]


class MultiScaleQuantizer(nnx.Module):
    """f ~ sum_k phi_k(up(codebook[tokens_k])), tokens_k the nearest codes of what the coarser levels left over.

    Everything here is full float32 on every device: a flipped code changes all finer levels.
    """

    def __init__(self, cfg: VARTokenizerConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        shape = (cfg.vocab_size, cfg.z_channels)
        self.codebook = nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32) / np.sqrt(cfg.z_channels))
        self.phi = nnx.List([Conv(cfg.z_channels, cfg.z_channels, 3, rngs=rngs) for _ in range(cfg.share_quant_resi)])

    def contribution(self, k: int, tokens: Tokens) -> CodeMap:
        """What level k adds to f_hat: (b, p_k^2) int32 -> (b, S, S, z), S = p of the last level."""
        p, size = self.cfg.patch_nums[k], self.cfg.patch_nums[-1]
        up = bicubic(self.codebook[...][tokens].reshape(-1, p, p, self.cfg.z_channels), (size, size))
        r = self.cfg.quant_resi
        with precision.exact():
            return (1 - r) * up + r * self.phi[phi_index(self.cfg, k)](up)

    def look_up(self, f: Features) -> tuple[list[Int32[Array, "b _"]], list[Float32[Array, "b _ z"]]]:
        """The tokens of every level, coarse to fine, and the vectors they stand for.

        Raises: ValueError for another S than the last level's (levels are absolute).
        """
        size = self.cfg.patch_nums[-1]
        if f.shape[1:3] != (size, size):
            raise ValueError(f"features of {f.shape[1]}x{f.shape[2]} do not fit the finest level, {size}x{size}")
        rest = jax.lax.stop_gradient(f.astype(jnp.float32))
        tokens, vectors = [], []
        for k, p in enumerate(self.cfg.patch_nums):
            vectors.append(area(rest, (p, p)).reshape(-1, p * p, self.cfg.z_channels))
            tokens.append(nearest_code(vectors[-1], self.codebook[...]))
            rest = rest - self.contribution(k, tokens[-1])
        return tokens, vectors

    def f_hats(self, tokens: Sequence[Tokens]) -> list[CodeMap]:
        """The sum up to each level given, one (b, S, S, z) per level."""
        sums: list[CodeMap] = []
        for k, level in enumerate(tokens):
            part = self.contribution(k, level)
            sums.append(sums[-1] + part if sums else part)
        return sums

    def level_input(self, k: int, f_hat: CodeMap) -> Float32[Array, "b n z"]:
        """What VAR reads at level k > 0: the sum of all coarser levels at that level's size, (b, p_k^2, z)."""
        p = self.cfg.patch_nums[k]
        return area(f_hat, (p, p)).reshape(-1, p * p, self.cfg.z_channels)

    def __call__(self, f: Features) -> tuple[Features, Float[Array, ""], list[Int32[Array, "b _"]]]:
        """f_hat of the last level with the gradient passed straight to f, the loss, and the tokens.

        The loss is the mean over levels of beta mean (sg[f_hat_k] - f)^2 + mean (f_hat_k - sg[f])^2.
        """
        tokens, _ = self.look_up(f)
        f_hats = self.f_hats(tokens)
        losses = [vq_loss(f, f_hat, commitment=self.cfg.beta, codebook=1.0) for f_hat in f_hats]
        return straight_through(f, f_hats[-1]), jnp.stack(losses).mean(), tokens


class VARTokenizer(nnx.Module):
    """Encoder, multi-scale quantiser and decoder; `decoder=False` leaves out what turns features into images.

    Images are (b, S factor, S factor, 3) in [-1, 1]; features and sums of codes are (b, S, S, z), float32.
    """

    def __init__(
        self, cfg: VARTokenizerConfig, *, decoder: bool = True, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        z = cfg.z_channels
        self.cfg = cfg
        self.encoder = Encoder(cfg, 3, z, deep_attention=True, dtype=dtype, rngs=rngs)
        self.quant_conv = Conv(z, z, 3, dtype=dtype, rngs=rngs)
        self.quantizer = MultiScaleQuantizer(cfg, rngs=rngs)
        self.post_quant_conv = Conv(z, z, 3, dtype=dtype, rngs=rngs) if decoder else None
        self.decoder = Decoder(cfg, z, 3, deep_attention=True, dtype=dtype, rngs=rngs) if decoder else None

    def encode(self, image: Float[Array, "b H W 3"]) -> Float32[Array, "b H//{self.cfg.factor} W//{self.cfg.factor} z"]:
        """Image -> features f, not quantised; raises ValueError if a side does not divide by cfg.factor."""
        return self.quant_conv(self.encoder(image)).astype(jnp.float32)

    def tokens(self, f: Features) -> list[Int32[Array, "b _"]]:
        """f -> one (b, p_k^2) int32 per level, coarse to fine."""
        return self.quantizer.look_up(f)[0]

    def revived(self, image: Float[Array, "b H W 3"], key: PRNGKeyArray) -> Float32[Array, "vocab z"]:
        """The codebook, with a random vector of this batch in the place of every code it does not use.

        Codes that nothing is near never get a gradient; of a fresh codebook few would live on.
        Source: SoundStream (arXiv:2107.03312), section III-C.
        """
        tokens, vectors = self.quantizer.look_up(self.encode(image))
        used = jnp.zeros(self.cfg.vocab_size, bool).at[jnp.concatenate(tokens, axis=1).reshape(-1)].set(True)
        seen = jnp.concatenate(vectors, axis=1).reshape(-1, self.cfg.z_channels)
        drawn = seen[jax.random.randint(key, used.shape, 0, len(seen))]
        return jnp.where(used[:, None], self.quantizer.codebook[...], drawn)

    def f_hats(self, tokens: Sequence[Tokens]) -> list[CodeMap]:
        """The sum of codes up to each level."""
        return self.quantizer.f_hats(tokens)

    def var_input_and_f_hat(self, tokens: Sequence[Tokens]) -> tuple[Float32[Array, "b n z"], CodeMap]:
        """VAR's teacher-forcing input, (b, L - p_0^2, z), and the last of `f_hats(tokens)`.

        The input is, at every level but the first, the sum of the coarser ones.
        """
        f_hats = self.f_hats(tokens)
        inputs = [self.quantizer.level_input(k + 1, f_hat) for k, f_hat in enumerate(f_hats[:-1])]
        return jnp.concatenate(inputs, axis=1), f_hats[-1]

    def next_input(self, k: int, f_hat: CodeMap, tokens: Tokens) -> tuple[CodeMap, Float32[Array, "b n z"] | None]:
        """One step of generation: f_hat with level k, (b, p_k^2) tokens, and VAR's input at level k + 1.

        The input is None after the last level.
        """
        f_hat = f_hat + self.quantizer.contribution(k, tokens)
        last = k + 1 == len(self.cfg.patch_nums)
        return f_hat, None if last else self.quantizer.level_input(k + 1, f_hat)

    def decode(self, f_hat: Float[Array, "b h w z"]) -> Float32[Array, "b {self.cfg.factor}*h {self.cfg.factor}*w 3"]:
        """Sum of codes -> image, not clamped; raises ValueError without a decoder."""
        if self.decoder is None or self.post_quant_conv is None:
            raise ValueError("this tokenizer was built with decoder=False: it cannot make images")
        return self.decoder(self.post_quant_conv(f_hat)).astype(jnp.float32)

    def tokens_to_image(self, tokens: Sequence[Tokens]) -> Float32[Array, "b H W 3"]:
        """Tokens of all levels -> image, clamped to [-1, 1]."""
        return jnp.clip(self.decode(self.f_hats(tokens)[-1]), -1, 1)

    def __call__(self, image: Float[Array, "b H W 3"], quantized: Float[Array, ""] | None = None) -> Reconstruction:
        """Training forward: encode, quantise, decode; the usage counts the codes of all levels together.

        `quantized`: the share in 0..1 of the codes in what is decoded, the rest are the features; all codes by default.
        """
        f = self.encode(image)
        f_hat, loss, tokens = self.quantizer(f)
        if quantized is not None:
            f_hat = f + quantized * (f_hat - f)
        usage = codebook_usage(jnp.concatenate(tokens, axis=1), self.cfg.vocab_size)
        return Reconstruction(self.decode(f_hat), loss, usage)


def phi_index(cfg: VARTokenizerConfig, k: int) -> int:
    """Which of the shared phi convolutions level k uses: the one whose tick lies nearest to k / (K - 1)."""
    count, last = cfg.share_quant_resi, max(len(cfg.patch_nums) - 1, 1)
    # The published model has four, on ticks of their own; any other number has evenly centred ones.
    margin = 1 / (3 * count) if count == 4 else 1 / (2 * count)
    ticks = np.linspace(margin, 1 - margin, count)
    return int(np.argmin(np.abs(ticks - k / last)))
