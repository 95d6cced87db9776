"""From LR latent and noise to z_0: one step, the ancestral chain, the deterministic chain.

Every function takes `denoise(x, t) -> z_0` with x already scaled and t as the network knows it: a closure over
parameters, LR and prior, which all stay the same along a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vdiffsr_jax.diffusion import resshift
from vdiffsr_jax.diffusion.resshift import Latent
from vdiffsr_jax.diffusion.schedule import Schedule

Denoise = Callable[[Latent, Int[Array, " b"]], Latent]
StepNoise = Float[Array, "T b h w c"] | PRNGKeyArray


class Trajectory(NamedTuple):
    """Every step of a chain, first t = T-1: the latents z_{t-1} it reached and the z_0 predicted there."""

    z: Float[Array, "T b h w c"]
    z_0: Float[Array, "T b h w c"]


def start(schedule: Schedule, z_y: Latent, noise: Latent) -> Latent:
    """z_T of a chain on this schedule, from z_y and unit `noise`."""
    return resshift.prior_sample(z_y, schedule.sqrt_eta[-1], noise, kappa=schedule.kappa)


def predict_z_0(denoise: Denoise, schedule: Schedule, z_t: Latent, t: int) -> Latent:
    """The network's z_0 for the whole batch at step `t` of the schedule, in z_t's dtype."""
    step = jnp.full(z_t.shape[:1], schedule.timestep_map[t], jnp.int32)
    return denoise(resshift.scale_input(z_t, schedule.input_std[t]), step).astype(z_t.dtype)


def predict_z_T(denoise: Denoise, schedule: Schedule, z_0: Latent) -> Latent:  # noqa: N802
    """Inverse noise prediction: asked at t = 0, a one-step student returns the z_T that leads to `z_0`.

    As published, the input is scaled by the standard deviation of the last step, not of t = 0.
    Source: SinSR (arXiv:2311.14760), consistency-preserving distillation; the scaling is that of its code.
    """
    step = jnp.full(z_0.shape[:1], schedule.timestep_map[0], jnp.int32)
    return denoise(resshift.scale_input(z_0, schedule.input_std[-1]), step).astype(z_0.dtype)


def predict_both(denoise: Denoise, schedule: Schedule, z_T: Sequence[Latent], z_0: Sequence[Latent]) -> list[Latent]:
    """`predict_z_0` at the last step of every one of `z_T`, then `predict_z_T` of every one of `z_0`, in one call.

    The k latents of a sample follow each other in the batch, so that each device keeps its own samples: `denoise` gets
    x (k b, h, w, c) and t (k b,), of which i k ... i k + k - 1 belong to sample i.
    """
    k, b = len(z_T) + len(z_0), z_T[0].shape[0]
    x = jnp.stack([resshift.scale_input(z, schedule.input_std[-1]) for z in (*z_T, *z_0)], axis=1)
    steps = [schedule.timestep_map[-1]] * len(z_T) + [schedule.timestep_map[0]] * len(z_0)
    t = jnp.tile(jnp.array(steps, jnp.int32), b)
    predicted = denoise(x.reshape(b * k, *x.shape[2:]), t).astype(x.dtype).reshape(x.shape)
    return [predicted[:, i] for i in range(k)]


def sample_one_step(denoise: Denoise, schedule: Schedule, z_y: Latent, noise: Latent) -> Latent:
    """z_0 = f(z_T, T-1).

    Source: SinSR (arXiv:2311.14760).
    """
    return predict_z_0(denoise, schedule, start(schedule, z_y, noise), schedule.num_steps - 1)


def sample_ancestral(denoise: Denoise, schedule: Schedule, z_y: Latent, noise: Latent, step_noise: StepNoise) -> Latent:
    """z_0 after a draw from every posterior, t = T-1..0; nothing is added at t = 0.

    Args: step_noise: entry s for t = T-1-s, or a key (`jax.random.key`).
    Raises: ValueError if step_noise is neither.
    Source: ResShift (arXiv:2307.12348), section 2.1.
    """
    return chain(denoise, schedule, z_y, noise, ancestral(schedule, z_y, step_noise))[0]


def sample_deterministic(denoise: Denoise, schedule: Schedule, z_y: Latent, noise: Latent) -> Latent:
    """z_0 by the noise-free chain z_{t-1} = k z_0 + m z_t + j z_y: a function of z_T, which a student can learn.

    Source: SinSR (arXiv:2311.14760), deterministic sampling.
    """
    return chain(denoise, schedule, z_y, noise, deterministic(schedule, z_y))[0]


class Rule(NamedTuple):
    """One sampler: coefficients by t, (T,) each, and how z_{t-1} follows from (z_t, z_0, coefficients, s, noise)."""

    coefficients: tuple[np.ndarray, ...]
    step: Callable[..., jax.Array]
    noise: Latent | None = None


def ancestral(schedule: Schedule, z_y: Latent, step_noise: StepNoise) -> Rule:
    """The rule of `sample_ancestral`."""
    keyed = jnp.issubdtype(step_noise.dtype, jax.dtypes.prng_key) and step_noise.ndim == 0
    if not keyed and step_noise.shape != (schedule.num_steps, *z_y.shape):
        raise ValueError(
            f"step_noise is {step_noise.dtype}{step_noise.shape}; it must be {(schedule.num_steps, *z_y.shape)}, "
            "one noise per step, or a key from jax.random.key"
        )
    moving = np.arange(schedule.num_steps) > 0

    def step(z_t: Latent, z_0: Latent, coefficients: Any, s: jax.Array, noise: Latent | None) -> jax.Array:
        weight_z_t, weight_z_0, log_variance, moves = coefficients
        if noise is None:
            noise = jax.random.normal(jax.random.fold_in(step_noise, s), z_t.shape, z_t.dtype)
        mean = resshift.posterior_mean(z_t, z_0, weight_z_t, weight_z_0)
        return resshift.ancestral_step(mean, log_variance, moves * noise)

    coefficients = (schedule.posterior_z_t, schedule.posterior_z_0, schedule.posterior_log_variance, moving)
    return Rule(coefficients, step, None if keyed else step_noise)


def deterministic(schedule: Schedule, z_y: Latent) -> Rule:
    """The rule of `sample_deterministic`."""

    def step(z_t: Latent, z_0: Latent, coefficients: Any, s: jax.Array, noise: None) -> jax.Array:
        return resshift.deterministic_step(z_t, z_0, z_y, *coefficients)

    return Rule((schedule.k, schedule.m, schedule.j), step)


def chain(
    denoise: Denoise, schedule: Schedule, z_y: Latent, noise: Latent, rule: Rule, *, keep: bool = False
) -> tuple[Latent, Trajectory | None]:
    """From z_T by `rule` to z_0, t = T-1..0; with `keep` every step of it too, T times the memory."""
    z_T = start(schedule, z_y, noise)

    def body(z_t: Latent, xs: Any) -> tuple[jax.Array, Any]:
        s, t_network, input_std, coefficients, noise = xs
        t = jnp.full(z_t.shape[:1], t_network)
        z_0 = denoise(resshift.scale_input(z_t, input_std), t).astype(z_t.dtype)
        z_prev = rule.step(z_t, z_0, coefficients, s, noise)
        return z_prev, Trajectory(z_prev, z_0) if keep else None

    def descending(by_t: np.ndarray, dtype: Any) -> jax.Array:
        return jnp.asarray(by_t[::-1], dtype)

    xs = (
        jnp.arange(schedule.num_steps),
        descending(schedule.timestep_map, jnp.int32),
        descending(schedule.input_std, z_T.dtype),
        tuple(descending(c, z_T.dtype) for c in rule.coefficients),
        rule.noise,
    )
    return jax.lax.scan(body, z_T, xs)
