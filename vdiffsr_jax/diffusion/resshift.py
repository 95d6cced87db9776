"""Residual shifting, one equation per function (ResShift, arXiv:2307.12348; SinSR, arXiv:2311.14760).

A coefficient is one number for the batch, (), or one per sample, (b,).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Latent = Float[Array, "b h w c"]


def _like(coefficient: ArrayLike, z: jax.Array) -> jax.Array:
    """A coefficient () or (b,) with as many axes as `z`, in its dtype."""
    coefficient = jnp.asarray(coefficient, z.dtype)
    if coefficient.ndim > 1:
        raise ValueError(f"a coefficient is () or (b,), not {coefficient.shape}")
    return coefficient.reshape(coefficient.shape + (1,) * (z.ndim - coefficient.ndim))


def _same_shape(*latents: jax.Array) -> None:
    if len({z.shape for z in latents}) > 1:
        raise ValueError(f"latents differ in shape: {', '.join(str(z.shape) for z in latents)}")


def q_sample(z_0: Latent, z_y: Latent, sqrt_eta: ArrayLike, noise: Latent, *, kappa: float) -> Latent:
    """Latent at one step between HR and LR: z_t = z_0 + eta (z_y - z_0) + kappa sqrt(eta) noise.

    Args: sqrt_eta: in (0, 1].
    Raises: ValueError if the latents differ in shape.
    Source: ResShift, eq. 2.
    """
    _same_shape(z_0, z_y, noise)
    sqrt_eta = _like(sqrt_eta, z_0)
    return z_0 + sqrt_eta**2 * (z_y - z_0) + kappa * sqrt_eta * noise


def prior_sample(z_y: Latent, sqrt_eta: ArrayLike, noise: Latent, *, kappa: float) -> Latent:
    """Start of the reverse chain, which knows no z_0: z_T = z_y + kappa sqrt(eta_T) noise.

    Args: sqrt_eta: that of the last kept step.
    Raises: ValueError if the latents differ in shape.
    Source: ResShift, section 2.1: eq. 2 in the limit eta_T -> 1.
    """
    _same_shape(z_y, noise)
    return z_y + kappa * _like(sqrt_eta, z_y) * noise


def scale_input(z_t: Latent, input_std: ArrayLike) -> Latent:
    """What the network sees: z_t / sqrt(kappa^2 eta_t + 1), about unit variance at every step."""
    return z_t / _like(input_std, z_t)


def posterior_mean(z_t: Latent, z_0: Latent, weight_z_t: ArrayLike, weight_z_0: ArrayLike) -> Latent:
    """Mean of q(z_{t-1} | z_t, z_0): (eta_{t-1} / eta_t) z_t + (alpha_t / eta_t) z_0.

    Args: weights: `Schedule.posterior_z_t`, `Schedule.posterior_z_0` at t.
    Raises: ValueError if the latents differ in shape.
    Source: ResShift, section 2.1, reverse process.
    """
    _same_shape(z_t, z_0)
    return _like(weight_z_t, z_t) * z_t + _like(weight_z_0, z_0) * z_0


def ancestral_step(mean: Latent, log_variance: ArrayLike, noise: Latent) -> Latent:
    """Draw from the posterior: z_{t-1} = mean + exp(log_variance / 2) noise.

    Args: noise: zero at t = 0. log_variance: `Schedule.posterior_log_variance` at t.
    Raises: ValueError if the latents differ in shape.
    """
    _same_shape(mean, noise)
    return mean + jnp.exp(0.5 * _like(log_variance, mean)) * noise


def deterministic_step(z_t: Latent, z_0: Latent, z_y: Latent, k: ArrayLike, m: ArrayLike, j: ArrayLike) -> Latent:
    """The step without noise that keeps every marginal: z_{t-1} = k z_0 + m z_t + j z_y.

    Args: k, m, j: of the schedule at t.
    Raises: ValueError if the latents differ in shape.
    Source: SinSR, deterministic sampling.
    """
    _same_shape(z_t, z_0, z_y)
    return _like(k, z_t) * z_0 + _like(m, z_t) * z_t + _like(j, z_t) * z_y
