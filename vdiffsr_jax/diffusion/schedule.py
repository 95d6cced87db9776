"""The residual-shifting schedule as data: eta_t and everything that follows from it, in float64 (design section 4)."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vdiffsr_jax.config import ConfigError, ScheduleConfig

PUBLISHED: dict[str, ScheduleConfig] = {
    "resshift_v1v2": ScheduleConfig(),
    "resshift_v3": ScheduleConfig(num_steps=4, min_noise_level=0.2, cap_sqrt_eta_1=False),
    "sinsr": ScheduleConfig(),
    "resshift_bicsr_opencv_s15": ScheduleConfig(kappa=1.0),
}


Steps = npt.NDArray[np.float64]  # one number per kept step, (T,)


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """Coefficients of every kept step t = 0..T-1.

    `timestep_map[t]` is the step that the network is told: after respacing, the step of the full schedule.
    """

    sqrt_eta: Steps
    kappa: float
    timestep_map: npt.NDArray[np.int64]

    @property
    def num_steps(self) -> int:
        """T, the number of kept steps."""
        return len(self.sqrt_eta)

    @cached_property
    def eta(self) -> Steps:
        """How far z_t has shifted from HR (0) to LR (1)."""
        return self.sqrt_eta**2

    @cached_property
    def eta_prev(self) -> Steps:
        """eta_{t-1}, with eta_{-1} = 0: the clean latent."""
        return np.append(0.0, self.eta[:-1])

    @cached_property
    def alpha(self) -> Steps:
        """The shift of one step, eta_t - eta_{t-1}."""
        return self.eta - self.eta_prev

    @cached_property
    def posterior_z_t(self) -> Steps:
        """Weight of z_t in the posterior mean, eta_{t-1} / eta_t."""
        return self.eta_prev / self.eta

    @cached_property
    def posterior_z_0(self) -> Steps:
        """Weight of z_0 in the posterior mean, alpha_t / eta_t."""
        return self.alpha / self.eta

    @cached_property
    def posterior_variance(self) -> Steps:
        """kappa^2 (eta_{t-1} / eta_t) alpha_t; zero at t = 0."""
        return self.kappa**2 * self.posterior_z_t * self.alpha

    @cached_property
    def posterior_log_variance(self) -> Steps:
        """Its logarithm; t = 0, whose variance is zero, takes the entry of t = 1."""
        logarithm: Steps = np.log(np.append(self.posterior_variance[1], self.posterior_variance[1:]))
        return logarithm

    @cached_property
    def loss_weight(self) -> Steps:
        """Weight of |z_0 error|^2 in the variational bound: (alpha_t / eta_t)^2 / (2 posterior variance)."""
        return 0.5 * self.posterior_z_0**2 * np.exp(-self.posterior_log_variance)

    @cached_property
    def m(self) -> Steps:
        """Weight of z_t in the deterministic step, sqrt(eta_{t-1} / eta_t)."""
        return np.sqrt(self.eta_prev / self.eta)

    @cached_property
    def j(self) -> Steps:
        """Weight of z_y in the deterministic step, eta_{t-1} - sqrt(eta_{t-1} eta_t)."""
        return self.eta_prev - np.sqrt(self.eta_prev * self.eta)

    @cached_property
    def k(self) -> Steps:
        """Weight of z_0 in the deterministic step: 1 - m - j, so that a fixed point stays fixed."""
        return 1.0 - self.eta_prev + np.sqrt(self.eta_prev * self.eta) - self.m

    @cached_property
    def input_std(self) -> Steps:
        """Standard deviation of z_t for unit latents, sqrt(kappa^2 eta_t + 1): the network's input is divided by it."""
        return np.sqrt(self.kappa**2 * self.eta + 1.0)


def make(cfg: ScheduleConfig, respace: int | None = None) -> Schedule:
    """The schedule of `cfg`, or the `respace` steps int(T/respace * i) of it with their own eta.

    sqrt(eta_t) = sqrt(eta_1) b^(((t-1)/(T-1))^p (T-1)) with b = (sqrt(eta_T) / sqrt(eta_1))^(1/(T-1)), t = 1..T.
    Raises: ConfigError unless 2 <= respace <= T (one step is not a respaced chain: see `sampler.sample_one_step`).
    Source: ResShift (arXiv:2307.12348), section 2.2.
    """
    first = cfg.sqrt_eta_1
    position = np.linspace(0.0, 1.0, cfg.num_steps) ** cfg.power
    sqrt_eta = first * (cfg.sqrt_eta_end / first) ** position
    kept = np.arange(cfg.num_steps)
    if respace is not None:
        if not 2 <= respace <= cfg.num_steps:
            raise ConfigError(f"respacing to {respace} steps: choose 2 to {cfg.num_steps} (the schedule's own length)")
        kept = np.array([int(cfg.num_steps / respace * i) for i in range(respace)])
    return Schedule(sqrt_eta[kept], cfg.kappa, kept)
