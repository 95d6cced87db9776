"""What the teacher and the one-step student are trained on: pure functions that return one number per sample.

`teacher` and `student` are closures `denoise(x, t) -> z_0` as in `sampler`; the trained one closes over the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.diffusion import resshift
from vdiffsr_jax.diffusion.resshift import Latent
from vdiffsr_jax.diffusion.sampler import Denoise, predict_both, predict_z_T
from vdiffsr_jax.diffusion.schedule import Schedule

GT_STARTS = ("predicted", "sampled")


def squared_error(a: Float[Array, " b *rest"], b: Float[Array, " b *rest"]) -> Float[Array, " b"]:
    """Mean of (a - b)^2 over all axes but the first."""
    return jnp.square(a - b).mean(axis=tuple(range(1, a.ndim)))


def uniform_t(key: PRNGKeyArray, batch: int, schedule: Schedule) -> Int32[Array, " {batch}"]:
    """Steps, uniform in 0..T-1."""
    return jax.random.randint(key, (batch,), 0, schedule.num_steps, jnp.int32)


def teacher_loss(
    teacher: Denoise, schedule: Schedule, z_0: Latent, z_y: Latent, t: Int[Array, " b"], noise: Latent
) -> Float[Array, " b"]:
    """|f(z_t, t) - z_0|^2 per sample.

    Args: t: in 0..T-1, see `uniform_t`.
    Raises: ValueError if the latents differ in shape.
    Source: ResShift (arXiv:2307.12348), section 2.1; unweighted, as published.
    """
    at_t = [jnp.asarray(c, z_0.dtype)[t] for c in (schedule.sqrt_eta, schedule.input_std)]
    z_t = resshift.q_sample(z_0, z_y, at_t[0], noise, kappa=schedule.kappa)
    t_network = jnp.asarray(schedule.timestep_map, jnp.int32)[t]
    return squared_error(teacher(resshift.scale_input(z_t, at_t[1]), t_network).astype(z_0.dtype), z_0)


def student_terms(
    student: Denoise,
    schedule: Schedule,
    z_T: Latent,
    z_0_teacher: Latent | None,
    z_0: Latent,
    *,
    inverse: bool = True,
    gt_start: str = "predicted",
) -> tuple[dict[str, Float[Array, " b"]], Latent]:
    """Terms of the one-step student per sample: `distil`, `inverse`, `gt`; and f(z_T, T), for terms of its picture.

    distil = |f(z_T, T) - z_0_teacher|^2;  inverse = |f(z_0_teacher, 0) - z_T|^2;
    gt = |f(sg z_T', T) - z_0|^2 with z_T' = f(z_0, 0), the noise that the student itself predicts for the real HR.

    Without `inverse` nothing trains f(., 0), so z_T' would be meaningless: `inverse` and `gt` are both left out. With
    gt_start = "sampled" the gt term starts from z_T instead and does not need the inverse (one network call less).
    Without a teacher there is no `distil`, and the inverse starts from f(sg z_T, T): z_0 says nothing of a z_T drawn
    by chance.

    Args: student: takes several latents a sample, see `predict_both`. z_T, z_0_teacher (the teacher's chain from z_T,
        None without one), z_0 (the latent of the real HR).
    Raises: ConfigError if gt_start is not "predicted" or "sampled".
    Source: SinSR (arXiv:2311.14760), consistency-preserving distillation.
    """
    if gt_start not in GT_STARTS:
        raise ConfigError(f"gt_start={gt_start!r} must be one of {', '.join(GT_STARTS)}")
    z_T, z_0, z_0_teacher = jax.lax.stop_gradient((z_T, z_0, z_0_teacher))
    noisy, gt_sampled = [z_T], gt_start == "sampled"
    if inverse and not gt_sampled:
        noisy.append(jax.lax.stop_gradient(predict_z_T(student, schedule, z_0)))
    # What gets a gradient in one call, as far as it is known: the program holds the network twice, not four times.
    found = predict_both(student, schedule, noisy, [z_0_teacher] if inverse and z_0_teacher is not None else [])
    z_0_student = found[0]
    if inverse and z_0_teacher is None:
        found.append(predict_z_T(student, schedule, jax.lax.stop_gradient(z_0_student)))
    terms = {} if z_0_teacher is None else {"distil": squared_error(z_0_student, z_0_teacher)}
    if inverse:
        terms["inverse"] = squared_error(found[-1], z_T)
    if inverse or gt_sampled:
        terms["gt"] = squared_error(found[0 if gt_sampled else 1], z_0)
    return terms, z_0_student


def total(terms: Mapping[str, Float[Array, " b"]], weights: Mapping[str, float]) -> Float[Array, " b"]:
    """Weighted sum of the terms per sample; its batch mean is what is differentiated."""
    weighted = [weights[name] * term for name, term in terms.items()]
    return jnp.stack(weighted).sum(axis=0)
