"""Vector quantisation: nearest code, straight-through gradient, losses and how much of the codebook is used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Int32

from vdiffsr_jax.ops.blocks import block_length, join, split

# Distances that one sample may have in flight, 8 MiB: what a processor's cache holds, of a codebook of any size.
MAX_DISTANCES = 2**21


def nearest_code(
    z: Float[Array, "batch *axes dim"], codebook: Float[Array, "codes dim"]
) -> Int32[Array, " batch *axes"]:
    """argmin_k |z - e_k|^2, the first of equals; no gradient. A code that is not finite is nearest to all, so
    that it shows.

    |z|^2 is the same for every code and left out, which keeps more digits of the difference; products are full float32
    on every device, because one flipped code changes the picture.
    """
    z, codebook = (lax.stop_gradient(a.astype(jnp.float32)) for a in (z, codebook))
    vectors = z.reshape(z.shape[0], -1, z.shape[-1])
    n, codes = vectors.shape[1], codebook.shape[0]
    squares = jnp.square(codebook).sum(axis=-1)
    finite = jnp.isfinite(squares)
    codebook = jnp.where(finite[:, None], codebook, 0)
    squares = jnp.where(finite, squares, -jnp.inf)[None, None]
    numbers = jnp.arange(codes, dtype=jnp.int32)[None, None]

    def nearest(part: Float32[Array, "b n dim"]) -> Int32[Array, "b n"]:
        product = jnp.einsum("bnd,kd->bnk", part, codebook, precision=lax.Precision.HIGHEST)
        distance = squares - 2 * product
        # Not argmin: a CPU compares one number after the other for it (VQ-f4's 4096 latents: 87 ms, like this 19).
        least = distance.min(axis=-1, keepdims=True)
        return jnp.where(distance > least, codes - 1, numbers).min(axis=-1)

    block = block_length(n, codes, MAX_DISTANCES)
    index = nearest(vectors) if block == n else join(lax.map(nearest, split(vectors, -2, block)), -1, n)
    return index.reshape(z.shape[:-1])


def straight_through(z: Float[Array, "*axes"], z_q: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """z_q in value, z in gradient.

    Source: Neural Discrete Representation Learning (arXiv:1711.00937), section 3.2.
    """
    return lax.stop_gradient(z_q) + (z - lax.stop_gradient(z))


def vq_loss(
    z: Float[Array, "*axes"], z_q: Float[Array, "*axes"], *, commitment: float, codebook: float
) -> Float[Array, ""]:
    """commitment mean (sg[z_q] - z)^2 + codebook mean (z_q - sg[z])^2.

    Source: arXiv:1711.00937, eq. 3, last two terms.
    """
    return (
        commitment * jnp.square(lax.stop_gradient(z_q) - z).mean()
        + codebook * jnp.square(z_q - lax.stop_gradient(z)).mean()
    )


def codebook_usage(indices: Int[Array, "*axes"], num_codes: int) -> dict[str, Float32[Array, ""]]:
    """How much of the codebook a batch uses: `codes_used` distinct ones, and `perplexity` exp(entropy)."""
    counts = jnp.zeros((num_codes,), jnp.float32).at[indices.reshape(-1)].add(1.0)
    p = counts / counts.sum()
    entropy = -jax.scipy.special.xlogy(p, p).sum()
    return {"codes_used": (counts > 0).sum().astype(jnp.float32), "perplexity": jnp.exp(entropy)}
