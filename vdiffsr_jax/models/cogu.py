"""CoGU, the Condition-Gated Unit: a gate and an affine modulation fuse the prior into a stage of the denoiser."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vdiffsr_jax.config import CoGUConfig
from vdiffsr_jax.models.layers import ZEROS, Conv, GroupNorm, LayerNorm, Linear
from vdiffsr_jax.models.swin import NORM_EPS
from vdiffsr_jax.ops.resize import bilinear

Map = Float[Array, "b R R c"]


class CoGU(nnx.Module):
    """Features h, aligned prior p, condition c = [timestep embedding; mean of the pyramid]:

        u = W_h GN(h) + W_p LN(p);  v = u + DWConv3x3(u);  m = W_v v;  g_0 = W_g v;  (b, gamma, beta) = W_c SiLU(c)
        h' = h + W_o (sigmoid(g_0 + b) * ((1 + gamma) * m + beta))

    W_c and W_o start at zero, so a fresh unit is the identity for any prior. Inner width D = min(channels, max_dim).
    """

    def __init__(
        self,
        channels: int,
        size: int,
        prior_dim: int,
        condition_dim: int,
        cfg: CoGUConfig,
        *,
        num_groups: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        dim = min(channels, cfg.max_dim)
        self.size = size
        self.norm_h = GroupNorm(channels, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.w_h = Linear(channels, dim, dtype=dtype, rngs=rngs)
        self.norm_p = LayerNorm(prior_dim, eps=NORM_EPS, dtype=dtype)
        self.w_p = Linear(prior_dim, dim, use_bias=False, dtype=dtype, rngs=rngs)
        self.mix = Conv(dim, dim, depthwise=True, dtype=dtype, rngs=rngs)
        self.w_v = Linear(dim, dim, dtype=dtype, rngs=rngs)
        self.w_g = Linear(dim, dim, use_bias=False, dtype=dtype, rngs=rngs)  # its bias would only repeat b's
        self.w_c = Linear(condition_dim, 3 * dim, dtype=dtype, kernel_init=ZEROS, rngs=rngs)
        self.w_o = Linear(dim, channels, dtype=dtype, kernel_init=ZEROS, rngs=rngs)

    def prepare(self, p: Float[Array, "b p p prior_dim"]) -> Float[Array, "b {self.size} {self.size} dim"]:
        """W_p LN(p), p resized to the stage: all that depends on the prior alone."""
        return self.w_p(self.norm_p(bilinear(p, (self.size, self.size))))

    def __call__(self, h: Map, prepared: Float[Array, "b R R dim"], condition: Float[Array, "b cond"]) -> Map:
        """h' of the equations above; `prepared` comes from `prepare`."""
        u = self.w_h(self.norm_h(h)) + prepared
        v = u + self.mix(u)
        b, gamma, beta = jnp.split(self.w_c(jax.nn.silu(condition))[:, None, None, :], 3, axis=-1)
        return h + self.w_o(jax.nn.sigmoid(self.w_g(v) + b) * ((1 + gamma) * self.w_v(v) + beta))
