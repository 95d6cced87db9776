"""The whole model on one page: enlarge, encode, read the prior, denoise, decode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Network, Params
from vdiffsr_jax.models.cspa import Reading
from vdiffsr_jax.models.prior import Prior, Pyramid
from vdiffsr_jax.models.vdiffsr import PriorCache, VDiffSR
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.ops import resize

Tile = Float[Array, "b h w 3"]  # LR
Window = Float[Array, "b H W 3"]  # HR, or LR at its size
Latent = Float[Array, "b h w c"]
Steps = Int[Array, " b"]
Denoise = Callable[[Latent, Steps], Latent]  # (z_t / its std, t) -> z_0: what `diffusion` works with
Items = Mapping[str, Params]  # {"first_stage", "denoiser" and, with a prior, "pvar": parameters}


@dataclasses.dataclass(frozen=True)
class Assembled:
    """First stage, denoiser and prior as one model; every method is a pure function of the parameters `items`."""

    config: VDiffSRConfig
    networks: Mapping[str, Network[Any]]

    def enlarge(self, lr: Tile) -> Float[Array, "b {self.config.scale}*h {self.config.scale}*w 3"]:
        """x4 bicubic (a = -0.75, not clamped): (b, h, w, 3) -> (b, 4h, 4w, 3), what encoder and prior see of `lr`."""
        return resize.bicubic(lr, (lr.shape[1] * self.config.scale, lr.shape[2] * self.config.scale))

    def encode(self, items: Items, image: Window) -> Float32[Array, "b h w c"]:
        """(b, 4h, 4w, 3) in [-1, 1] -> latent (b, h, w, c), not quantised."""
        return self.networks["first_stage"].method(VQGAN.encode)(items["first_stage"], image)

    def pyramid(self, items: Items, window: Window) -> Pyramid:
        """The enlarged tile (b, 4t, 4t, 3) -> the prior's maps, one (b, p_k, p_k, dim) per level, coarse to fine."""
        return self.networks["pvar"].method(Prior.__call__)(items["pvar"], window)

    def read_prior(self, items: Items, pyramid: Pyramid) -> PriorCache:
        """The denoiser's means, keys and values of a pyramid, which no diffusion step changes."""
        return self.networks["denoiser"].method(VDiffSR.encode_prior)(items["denoiser"], pyramid)

    def denoise(
        self, items: Items, x: Latent, t: Steps, lr: Tile, prior: PriorCache | None
    ) -> Float32[Array, "b h w c"]:
        """f(x, t, lr; prior): z_t / its std (b, h, w, c) at steps t (b,) -> prediction of z_0, float32."""
        return self.networks["denoiser"].method(VDiffSR.__call__)(items["denoiser"], x, t, lr, prior)

    def attention(
        self, items: Items, x: Latent, t: Steps, lr: Tile, pyramid: Pyramid, queries: Int[Array, "n 2"]
    ) -> tuple[Reading, ...]:
        """What CSPA reads of a pyramid in each of its places, for queries (n, 2) of the latent; else as `denoise`."""
        prior = self.read_prior(items, pyramid)
        return self.networks["denoiser"].method(VDiffSR.attention)(items["denoiser"], x, t, lr, prior, queries)

    def decode(self, items: Items, z_0: Latent) -> Float32[Array, "b H W 3"]:
        """Latent (b, h, w, c), through its nearest codes, -> image (b, 4h, 4w, 3) around [-1, 1]."""
        return self.networks["first_stage"].method(VQGAN.decode)(items["first_stage"], z_0)

    def denoiser(self, items: Items, lr: Tile, window: Window | None = None) -> Denoise:
        """denoise(x, t) of these tiles, their prior read once; `window` is `enlarge(lr)` where it is there already.

        x may hold several latents of every tile, one after the other.
        """
        prior = None
        if self.config.prior is not None:
            window = self.enlarge(lr) if window is None else window
            prior = self.read_prior(items, self.pyramid(items, window))

        def denoise(x: Float[Array, "n h w c"], t: Int[Array, " n"]) -> Float32[Array, "n h w c"]:
            copies = x.shape[0] // lr.shape[0]
            of_lr, of_prior = (lr, prior)
            if copies > 1:
                of_lr, of_prior = jax.tree.map(lambda x: jnp.repeat(x, copies, axis=0), (lr, prior))
            return self.denoise(items, x, t, of_lr, of_prior)

        return denoise


def assemble(config: VDiffSRConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none") -> Assembled:
    """The model of a configuration, computing in `dtype`; no memory is used."""
    return Assembled(config, kinds.networks("vdiffsr", config, dtype=dtype, remat=remat))
