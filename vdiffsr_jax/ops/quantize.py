"""Vector quantisation: nearest code, straight-through gradient, losses and how much of the codebook is used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Int32

# Codes compared at once: distances of a whole batch to a large codebook would not fit beside the activations.
CHUNK = 1024


def nearest_code(z: Float[Array, "*axes dim"], codebook: Float[Array, "codes dim"]) -> Int32[Array, "*axes"]:
    """argmin_k |z - e_k|^2, the first of equals; no gradient.

    |z|^2 is the same for every code and left out, which keeps more digits of the difference; products are full float32
    on every device, because one flipped code changes the picture.
    """
    z, codebook = (lax.stop_gradient(a.astype(jnp.float32)) for a in (z, codebook))
    flat = z.reshape(-1, z.shape[-1])
    n = codebook.shape[0]
    best = jnp.full(flat.shape[:1], jnp.inf)
    index = jnp.zeros(flat.shape[:1], jnp.int32)
    for first in range(0, n, CHUNK):
        codes = codebook[first : first + CHUNK]
        product = jnp.einsum("nd,kd->nk", flat, codes, precision=lax.Precision.HIGHEST)
        distance = jnp.square(codes).sum(axis=-1)[None] - 2 * product
        candidate = distance.min(axis=-1)
        closer = candidate < best
        index = jnp.where(closer, first + distance.argmin(axis=-1).astype(jnp.int32), index)
        best = jnp.where(closer, candidate, best)
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
