"""VDiff-SR's denoiser: the Swin UNet with CoGU and CSPA after every Swin layer, reading a prior pyramid."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.models.build import Params, build
from vdiffsr_jax.models.cogu import CoGU
from vdiffsr_jax.models.cspa import CSPA, Prepared, Reading, aligned_level
from vdiffsr_jax.models.remat import remat_block
from vdiffsr_jax.models.swin_unet import LR, Map, Steps, SwinUNet, swin_places


class PriorCache(NamedTuple):
    """Everything the denoiser computes from the prior alone, once per tile, for every step and place.

    `mean`: over all tokens. `cogu`, `cspa`: what each unit's `prepare` gives, in forward order.
    """

    mean: Float32[Array, "b prior_dim"]
    cogu: tuple[Float[Array, "b _ _ _"], ...]
    cspa: tuple[Prepared, ...]


class Units(nnx.Module):
    """CoGU and CSPA of every place, None where switched off; apart, so that fresh ones are made without a UNet."""

    def __init__(self, cfg: VDiffSRConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.cogu = self.cspa = nnx.data(None)
        if cfg.prior is None:
            return
        places = swin_places(cfg.denoiser)
        dim, emb_dim = cfg.prior.dim, 4 * cfg.denoiser.model_channels
        how: dict[str, Any] = {"num_groups": cfg.denoiser.num_groups, "dtype": dtype, "rngs": rngs}
        if cfg.cogu.enabled:
            self.cogu = nnx.List([CoGU(*place, dim, emb_dim + dim, cfg.cogu, **how) for place in places])
        if cfg.cspa.same or cfg.cspa.cross:
            levels = cfg.prior.tokenizer.patch_nums
            self.cspa = nnx.List([CSPA(*place, dim, emb_dim, levels, cfg.cspa, **how) for place in places])


class VDiffSR(nnx.Module):
    """f(x, t, lr; prior) -> z_0: ResBlock -> Swin -> CoGU -> CSPA in every place; a plain UNet where cfg.prior is None.

    Freshly made units are the identity, so converted ResShift or SinSR weights compute the same function as before.
    """

    def __init__(self, cfg: VDiffSRConfig, *, dtype: DTypeLike = jnp.float32, remat: str = "none", rngs: nnx.Rngs):
        self.unet = SwinUNet(cfg.denoiser, dtype=dtype, remat=remat, rngs=rngs)
        self.remat = remat
        self.patch_nums = () if cfg.prior is None else cfg.prior.tokenizer.patch_nums
        self.tile_size = cfg.tile_size
        self.sizes = tuple(size for _, size in swin_places(cfg.denoiser))
        units = Units(cfg, dtype=dtype, rngs=rngs)
        self.cogu, self.cspa = nnx.data(units.cogu), nnx.data(units.cspa)

    def encode_prior(self, pyramid: Sequence[Float[Array, "b _ _ prior_dim"]]) -> PriorCache:
        """The part of CoGU and CSPA that no diffusion step changes, of a pyramid's levels, coarse to fine.

        Raises: ValueError if the model has no prior or the levels are not those of the configuration.
        """
        if tuple(p.shape[1] for p in pyramid) != self.patch_nums:
            raise ValueError(f"prior levels {tuple(p.shape[1] for p in pyramid)} must be {self.patch_nums}")
        levels = tuple(pyramid)
        aligned = [levels[aligned_level(self.patch_nums, size)] for size in self.sizes]
        tokens = jnp.concatenate([p.reshape(p.shape[0], -1, p.shape[-1]) for p in levels], axis=1)
        return PriorCache(
            mean=tokens.astype(jnp.float32).mean(axis=1),
            cogu=tuple(unit.prepare(p) for unit, p in zip(self.cogu or (), aligned, strict=False)),
            cspa=tuple(unit.prepare(p, levels) for unit, p in zip(self.cspa or (), aligned, strict=False)),
        )

    def __call__(self, x: Map, t: Steps, lr: LR, cache: PriorCache | None = None) -> Float32[Array, "b h w c"]:
        """Prediction of z_0.

        Args: x: z_t already divided by its standard deviation. lr: in [-1, 1]. cache: from `encode_prior`, with the
            same batch; then h = w = image_size, one VAR window.
        Raises: ValueError if a cache is needed and absent or given and unused, or the map is not one VAR window.
        """
        self._check(x, cache)
        if cache is None:
            return self.unet(x, t, lr)

        def fuse(i: int, h: jax.Array, emb: jax.Array) -> jax.Array:
            h = self._gate(i, h, emb, cache)
            return h if self.cspa is None else self.cspa[i](h, cache.cspa[i], emb)

        return self.unet(x, t, lr, lambda i, h, emb: remat_block(functools.partial(fuse, i), self.remat)(h, emb))

    def attention(self, x: Map, t: Steps, lr: LR, cache: PriorCache, queries: Int[Array, "n 2"]) -> tuple[Reading, ...]:
        """What CSPA reads of the prior in every place, in forward order; arguments as for a call.

        Args: queries: row and column in the latent; each stage answers for the cell that holds it.
        Raises: ValueError as a call does, or if the model has no CSPA.
        """
        self._check(x, cache)
        units, readings = self.cspa, []
        if units is None:
            raise ValueError("this denoiser has no CSPA")

        def fuse(i: int, h: jax.Array, emb: jax.Array) -> jax.Array:
            h = self._gate(i, h, emb, cache)
            at = queries * self.sizes[i] // self.tile_size
            readings.append(units[i].read(h, cache.cspa[i], emb, at))
            return units[i](h, cache.cspa[i], emb)

        self.unet(x, t, lr, fuse)
        return tuple(readings)

    def _gate(self, i: int, h: Map, emb: Float[Array, "b emb"], cache: PriorCache) -> Map:
        """CoGU of place i, where it is on."""
        if self.cogu is None:
            return h
        return self.cogu[i](h, cache.cogu[i], jnp.concatenate([emb, cache.mean.astype(emb.dtype)], axis=-1))

    def _check(self, x: jax.Array, cache: PriorCache | None) -> None:
        if (cache is None) != (not self.patch_nums):
            need = (
                "has no prior; leave the cache out" if cache is not None else "needs a prior; call encode_prior first"
            )
            raise ValueError(f"this denoiser {need}")
        if cache is not None and x.shape[1:3] != (self.tile_size, self.tile_size):
            raise ValueError(f"a latent of {x.shape[1]}x{x.shape[2]} is not one VAR window, {self.tile_size} squared")


def from_unet(unet_params: Params, cfg: VDiffSRConfig, key: PRNGKeyArray) -> Params:
    """Denoiser parameters: the given UNet weights with fresh CoGU and CSPA, the same function as the UNet alone.

    Raises: ValueError listing what does not fit if the weights are not those of `cfg.denoiser`.
    """
    build(SwinUNet, cfg.denoiser).check(unet_params, "the UNet's weights")
    return {**build(Units, cfg).init(key), "unet": unet_params}
