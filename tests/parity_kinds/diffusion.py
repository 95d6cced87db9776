"""Schedules, forward process, samplers, losses and their gradients against the originals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.conversion.in_memory import convert, invert
from tests.golden.fill import fill
from tests.parity_kinds import swin_unet, vqgan_f4, weights
from vdiffsr_jax.config import ScheduleConfig
from vdiffsr_jax.conversion.swin_unet import TABLE
from vdiffsr_jax.diffusion import losses, resshift, sampler, schedule
from vdiffsr_jax.diffusion.schedule import Schedule
from vdiffsr_jax.models.build import Network, Params, flatten, unflatten
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.ops.resize import bicubic

# Our names of the schedule's arrays, by the originals'.
SCHEDULE_ARRAYS = {
    "sqrt_etas": "sqrt_eta",
    "etas": "eta",
    "etas_prev": "eta_prev",
    "alpha": "alpha",
    "posterior_mean_coef1": "posterior_z_t",
    "posterior_mean_coef2": "posterior_z_0",
    "posterior_variance": "posterior_variance",
    "posterior_log_variance_clipped": "posterior_log_variance",
    "weight_loss_mse": "loss_weight",
    "ddim_k": "k",
    "ddim_m": "m",
    "ddim_j": "j",
    "input_std": "input_std",
    "timestep_map": "timestep_map",
}
# Terms of the student's loss, by the originals' names.
TERMS = {"loss_mse": "distil", "loss_mse_xT": "inverse", "loss_mse_gt": "gt", "loss_total": "total"}

# Each chain's schedule.
CHAINS = {
    "ancestral15": "resshift_v1v2",
    "ancestral_v3": "resshift_v3",
    "ancestral_15to4": "resshift_15to4",
    "deterministic15": "sinsr",
    "deterministic_15to4": "sinsr_15to4",
}

# Every other reference array follows from the schedules and the inputs alone.
NEEDS_NETWORK = r"p_t|ddim_|ancestral|deterministic|one_step|loss_(?!lq|noise)|grad_|teacher_"


def outputs(folder: Path, io: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every reference array, in NCHW; costly groups of which `io` holds no name are left out."""
    config = json.loads((folder / "config.json").read_text())
    schedules = {name: make_schedule(spec) for name, spec in config["schedules"].items()}
    inputs = {name: jnp.moveaxis(jnp.asarray(value), -3, -1) for name, value in io.items() if value.ndim >= 4}
    latents = _forward_process(inputs, schedules)
    values = _schedule_arrays(schedules) | _coefficients(schedules["sinsr"])
    if any(re.match(NEEDS_NETWORK, name) for name in io):
        of_network, of_gradients = _with_network(folder, config, inputs, schedules, set(io))
        latents |= of_network
        values |= of_gradients
    nchw = {name: np.moveaxis(np.asarray(latent), -1, -3) for name, latent in latents.items()}
    return nchw | {name: np.asarray(value) for name, value in values.items()}


def _with_network(
    folder: Path,
    config: Mapping[str, Any],
    inputs: Mapping[str, jax.Array],
    schedules: Mapping[str, Schedule],
    names: Set[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Latents (NHWC), and losses with gradients under the originals' names; only groups of which `names` has some."""
    sinsr = schedules["sinsr"]
    _, network, teacher = swin_unet.load(folder / config["unet"])
    tensors = weights.load(folder / config["unet"])
    student = _filled(network, tensors, config["student_seed"])
    # Jitted here and nowhere above it: every single call then shares one compiled network.
    apply = jax.jit(lambda params, x, t, lq: network.apply(params, x, t, lq))

    def denoise_with(lq: jax.Array) -> Callable[[Params], sampler.Denoise]:
        return lambda params: lambda x, t: apply(params, x, t, jnp.repeat(lq, x.shape[0] // lq.shape[0], axis=0))

    def by_name(gradient: Params) -> dict[str, np.ndarray]:
        return invert(TABLE, tensors, flatten(gradient))

    def wanted(prefixes: str) -> bool:
        return any(re.match(prefixes, name) for name in names)

    denoise, denoise_loss = denoise_with(inputs["lq"])(teacher), denoise_with(inputs["loss_lq"])
    latents: dict[str, Any] = {}
    values: dict[str, Any] = {}
    if wanted("p_t|ddim_inverse|one_step"):
        latents |= _steps(denoise, inputs, sinsr)
    for chain, name in CHAINS.items():
        if wanted(f"{chain}_"):
            latents |= _chain(chain, denoise, inputs, schedules[name])
    if wanted("loss_(?!lq|noise)|grad_|teacher_"):
        given = _loss_inputs(denoise_loss(teacher), folder / config["first_stage"], inputs, sinsr)
        latents |= _student_calls(denoise_loss(student), given, sinsr)
        values |= _student_losses(denoise_loss, student, given, sinsr, by_name, config["named"])
        teacher_latents, teacher_mse, gradient = _teacher_loss(
            denoise_loss, student, given, sinsr, config["teacher_t"], inputs["loss_noise"]
        )
        latents |= teacher_latents
        values |= {"teacher_mse": teacher_mse} | _gradient_norms("teacher", by_name(gradient), config["named"])
    return latents, values


def make_schedule(spec: Mapping[str, Any]) -> Schedule:
    """From the originals' arguments; the conference branch and SinSR cap sqrt(eta_1), the journal branch does not."""
    cfg = ScheduleConfig(
        num_steps=spec["steps"],
        kappa=spec["kappa"],
        power=spec["schedule_kwargs"]["power"],
        min_noise_level=spec["min_noise_level"],
        sqrt_eta_end=spec["etas_end"],
        cap_sqrt_eta_1=spec["code"] != "resshift",
    )
    return schedule.make(cfg, spec["timestep_respacing"])


def _schedule_arrays(schedules: Mapping[str, Schedule]) -> dict[str, Any]:
    return {
        f"schedule:{name}:{theirs}": getattr(made, ours)
        for name, made in schedules.items()
        for theirs, ours in SCHEDULE_ARRAYS.items()
    }


def _coefficients(made: Schedule) -> dict[str, Any]:
    """Those of the single steps at t = 0 and 7, once per sample of the batch of two."""
    names = {
        "variance": made.posterior_variance,
        "log_variance": made.posterior_log_variance,
        "ddim_k": made.k,
        "ddim_m": made.m,
        "ddim_j": made.j,
    }
    return {f"p_t{t}_{name}": np.full(2, by_t[t]) for t in (0, 7) for name, by_t in names.items()}


def _forward_process(inputs: Mapping[str, jax.Array], schedules: Mapping[str, Schedule]) -> dict[str, Any]:
    made = schedules["sinsr"]
    x0, z_y, noise = (inputs[name] for name in ("x0", "z_y", "noise"))
    latents: dict[str, Any] = {}
    for t in (0, 7, 14):
        latents[f"q_sample_t{t}"] = resshift.q_sample(x0, z_y, made.sqrt_eta[t], noise, kappa=made.kappa)
        latents[f"scale_input_t{t}"] = resshift.scale_input(x0, made.input_std[t])
    latents["q_sample_mixed"] = resshift.q_sample(x0, z_y, made.sqrt_eta[[3, 12]], noise, kappa=made.kappa)
    for suffix, name in (("", "sinsr"), ("_v3", "resshift_v3"), ("_15to4", "sinsr_15to4")):
        latents[f"prior_sample{suffix}"] = sampler.start(schedules[name], z_y, noise)
    return latents


def _steps(denoise: sampler.Denoise, inputs: Mapping[str, jax.Array], made: Schedule) -> dict[str, Any]:
    """One posterior at z_T, asked at t = 0 and 7; the inverse step; the one-step result."""
    x0, z_y, noise = (inputs[name] for name in ("x0", "z_y", "noise"))
    z_T = sampler.start(made, z_y, noise)
    latents: dict[str, Any] = {}
    for t in (0, 7):
        z_0 = sampler.predict_z_0(denoise, made, z_T, t)
        mean = resshift.posterior_mean(z_T, z_0, made.posterior_z_t[t], made.posterior_z_0[t])
        latents |= {f"p_t{t}_pred_xstart": z_0, f"p_t{t}_mean": mean}
    latents["p_t7_clipped_pred_xstart"] = jnp.clip(latents["p_t7_pred_xstart"], -1, 1)
    z_0 = sampler.predict_z_0(denoise, made, x0, 7)
    latents["ddim_inverse_t7"] = (x0 - float(made.k[7]) * z_0 - float(made.j[7]) * z_y) / float(made.m[7])
    return latents | {"one_step": sampler.sample_one_step(denoise, made, z_y, noise)}


def _chain(
    chain: str, denoise: sampler.Denoise, inputs: Mapping[str, jax.Array], made: Schedule
) -> dict[str, jax.Array]:
    """Every step of one chain."""
    z_y, noise = inputs["z_y"], inputs["noise"]
    if chain.startswith("ancestral"):
        rule = sampler.ancestral(made, z_y, inputs["chain_noise"][: made.num_steps])
    else:
        rule = sampler.deterministic(made, z_y)
    trace = sampler.chain(denoise, made, z_y, noise, rule, keep=True)[1]
    latents = {f"{chain}_sample_{s}": z for s, z in enumerate(trace.z)}
    return latents | {f"{chain}_x0_{s}": z_0 for s, z_0 in enumerate(trace.z_0)}


class _LossInputs(NamedTuple):
    """Where the losses start: latents of the LR and of the real HR, z_T, and what the teacher makes of it."""

    z_y: jax.Array
    z_gt: jax.Array
    z_t_last: jax.Array
    z_0_teacher: jax.Array


def _loss_inputs(
    teacher: sampler.Denoise, folder: Path, inputs: Mapping[str, jax.Array], made: Schedule
) -> _LossInputs:
    """`folder`: the first stage's."""
    lq, noise, gt = (inputs[name] for name in ("loss_lq", "loss_noise", "gt"))
    first_stage, params = vqgan_f4.load(folder)
    encode = jax.jit(first_stage.method(VQGAN.encode))
    z_y, z_gt = encode(params, bicubic(lq, (gt.shape[1], gt.shape[2]))), encode(params, gt)
    z_T = sampler.start(made, z_y, noise)
    return _LossInputs(z_y, z_gt, z_T, sampler.sample_deterministic(teacher, made, z_y, noise))


def _student_calls(student: sampler.Denoise, given: _LossInputs, made: Schedule) -> dict[str, Any]:
    """Inputs and outputs of the student's four calls."""
    z_y, z_gt, z_T, z_0_teacher = given
    last = made.num_steps - 1
    z_T_real = sampler.predict_z_T(student, made, z_gt)
    calls = {
        "distil": (z_T, sampler.predict_z_0(student, made, z_T, last)),
        "inverse": (z_0_teacher, sampler.predict_z_T(student, made, z_0_teacher)),
        "gt_inverse": (z_gt, z_T_real),
        "gt": (z_T_real, sampler.predict_z_0(student, made, z_T_real, last)),
    }
    latents = {"loss_z_y": z_y, "loss_z_gt": z_gt, "loss_z_T": z_T, "loss_z0_teacher": z_0_teacher}
    for call, (z, z_0) in calls.items():
        latents |= {f"loss_{call}_input": resshift.scale_input(z, made.input_std[-1]), f"loss_{call}_output": z_0}
    return latents


def _student_losses(
    denoise: Callable[[Params], sampler.Denoise],
    params: Params,
    given: _LossInputs,
    made: Schedule,
    by_name: Callable[[Params], dict[str, np.ndarray]],
    named: list[str],
) -> dict[str, Any]:
    """The student's terms per sample, and the gradients of their batch means under the originals' names."""

    def objective(params: Params) -> tuple[jax.Array, dict[str, jax.Array]]:
        terms, _ = losses.student_terms(denoise(params), made, given.z_t_last, given.z_0_teacher, given.z_gt)
        terms["total"] = losses.total(terms, dict.fromkeys(terms, 1.0))
        return jnp.stack([terms[name].mean() for name in TERMS.values()]), terms

    gradients, terms = jax.jacrev(objective, has_aux=True)(params)
    values: dict[str, Any] = {theirs: terms[ours] for theirs, ours in TERMS.items()}
    for i, term in enumerate(TERMS.values()):
        gradient = by_name(jax.tree.map(lambda g, i=i: g[i], gradients))
        values |= _gradient_norms(term, gradient, named)
        if term == "total":
            values |= {f"grad_total:{name}": array for name, array in gradient.items()}
    return values


def _teacher_loss(
    denoise: Callable[[Params], sampler.Denoise],
    params: Params,
    given: _LossInputs,
    made: Schedule,
    steps: list[int],
    noise: jax.Array,
) -> tuple[dict[str, Any], jax.Array, Params]:
    """ResShift's own loss on the network that is trained: its latents, its values, the gradient of their mean."""
    t = jnp.asarray(steps, jnp.int32)
    z_t = resshift.q_sample(given.z_gt, given.z_y, made.sqrt_eta[steps], noise, kappa=made.kappa)
    output = denoise(params)(resshift.scale_input(z_t, made.input_std[steps]), t)

    def objective(params: Params) -> tuple[jax.Array, jax.Array]:
        loss = losses.teacher_loss(denoise(params), made, given.z_gt, given.z_y, t, noise)
        return loss.mean(), loss

    gradient, loss = jax.grad(objective, has_aux=True)(params)
    return {"teacher_z_t": z_t, "teacher_output": output}, loss, gradient


def _filled(network: Network, tensors: Mapping[str, np.ndarray], seed: int) -> Params:
    """The student: the recipe's weights for another seed; the names and shapes of `tensors`."""
    made = {
        name: fill(name, value.shape, seed) if np.issubdtype(value.dtype, np.floating) else value
        for name, value in tensors.items()
    }
    flat = convert(TABLE, made, made.__getitem__, flatten(network.abstract), "the student")
    return unflatten(flat, network.abstract)


def _gradient_norms(term: str, gradients: Mapping[str, np.ndarray], named: list[str]) -> dict[str, np.ndarray]:
    norms = {name: np.linalg.norm(np.asarray(g, np.float64)) for name, g in gradients.items()}
    return {
        f"grad_norm_{term}_all": np.sqrt(sum(np.square(list(norms.values())))),
        f"grad_norm_{term}_named": np.array([norms[name] for name in named]),
    }
