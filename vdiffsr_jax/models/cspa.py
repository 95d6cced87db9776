"""CSPA, Cross-Scale Prior-Aligned Attention: a denoiser stage reads the prior at its own scale and at all scales."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vdiffsr_jax.config import CSPAConfig
from vdiffsr_jax.models.layers import ZEROS, GroupNorm, Linear
from vdiffsr_jax.ops.embed import grid_centres, rotary_angles, rotate
from vdiffsr_jax.ops.resize import bilinear
from vdiffsr_jax.ops.window import check_divides, relative_position_bias, window_attention

NORM_EPS = 1e-5
BIAS_TABLE_INIT = jax.nn.initializers.truncated_normal(0.02)
KeyValue = tuple[jax.Array, jax.Array]


class SameScale(nnx.Module):
    """Queries of each window attend to the aligned prior map in that window, with a bias per relative position."""

    def __init__(self, size: int, prior_dim: int, cfg: CSPAConfig, *, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs):
        self.size = size
        self.window = min(cfg.window_size, size)
        check_divides(size, size, self.window)
        self.kv = Linear(prior_dim, 2 * cfg.dim, dtype=dtype, rngs=rngs)
        table = ((2 * self.window - 1) ** 2, cfg.dim // cfg.head_dim)
        self.bias_table = nnx.Param(BIAS_TABLE_INIT(rngs.params(), table, jnp.float32))

    def prepare(self, p: jax.Array) -> KeyValue:
        """Keys and values of the aligned map, (b, p_k, p_k, prior_dim) -> two of (b, R, R, dim)."""
        # A linear map per pixel and bilinear weights that sum to one commute; projecting the small map is cheaper.
        k, v = jnp.split(bilinear(self.kv(p), (self.size, self.size)), 2, axis=-1)
        return k, v

    def __call__(self, q: jax.Array, prepared: KeyValue) -> jax.Array:
        """(b, R, R, dim) -> (b, R, R, dim)."""
        bias = relative_position_bias(self.bias_table[...], self.window)
        return window_attention(q, *prepared, bias, window=self.window)


class CrossScale(nnx.Module):
    """Every query attends to the tokens of all levels of its VAR window.

    Token (i, j) of level k and query (a, b) stand at the centres of their cells in one unit square; 2-D rotary encoding
    of these places aligns the scales. A bias per head and level, linear in the timestep embedding and zero at the
    start, says which levels a step reads. `cfg.levels` leaves only those levels in reach; parameters do not change.
    """

    def __init__(
        self,
        size: int,
        prior_dim: int,
        emb_dim: int,
        patch_nums: tuple[int, ...],
        cfg: CSPAConfig,
        *,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.size = size
        self.patch_nums = patch_nums
        self.levels = cfg.levels or tuple(range(len(patch_nums)))
        self.head_dim = cfg.head_dim
        self.num_heads = cfg.dim // cfg.head_dim
        self.kv = Linear(prior_dim, 2 * cfg.dim, dtype=dtype, rngs=rngs)
        self.level_bias = Linear(emb_dim, self.num_heads * len(patch_nums), kernel_init=ZEROS, rngs=rngs)

    def prepare(self, pyramid: tuple[jax.Array, ...]) -> KeyValue:
        """Rotated keys and values of all tokens read: two of (b, tokens, heads, head_dim)."""
        tokens = jnp.concatenate(
            [pyramid[k].reshape(pyramid[k].shape[0], -1, pyramid[k].shape[-1]) for k in self.levels], 1
        )
        k, v = (x.reshape(*x.shape[:2], self.num_heads, self.head_dim) for x in jnp.split(self.kv(tokens), 2, axis=-1))
        places = np.concatenate([grid_centres(self.patch_nums[k]) for k in self.levels])
        return rotate(k, self._angles(places)), v

    def __call__(self, q: jax.Array, prepared: KeyValue, emb: jax.Array) -> jax.Array:
        """softmax(q k^T / sqrt(d) + level bias) v, the softmax in float32.

        Args: q: (b, R, R, dim). emb: (b, emb_dim). Returns: (b, R, R, dim).
        """
        k, v = prepared
        rotated = rotate(
            q.reshape(q.shape[0], -1, self.num_heads, self.head_dim), self._angles(grid_centres(self.size))
        )
        logits = jnp.einsum("bnkd,bmkd->bknm", rotated * self.head_dim**-0.5, k, preferred_element_type=jnp.float32)
        level_of_token = np.concatenate([np.full(self.patch_nums[level] ** 2, level) for level in self.levels])
        bias = self.level_bias(emb).reshape(-1, self.num_heads, 1, len(self.patch_nums))[..., level_of_token]
        weights = jax.nn.softmax(logits + bias, axis=-1).astype(v.dtype)
        return jnp.einsum("bknm,bmkd->bnkd", weights, v).reshape(q.shape)

    def _angles(self, places: np.ndarray) -> np.ndarray:
        return rotary_angles(places, self.head_dim, finest=max(self.patch_nums))


class CSPA(nnx.Module):
    """h'' = h' + W_o [same scale ; cross scale], queries W_q GN(h'). W_o starts at zero: a fresh unit is the identity.

    Raises: ValueError if both branches are off (leave the unit out instead).
    """

    def __init__(
        self,
        channels: int,
        size: int,
        prior_dim: int,
        emb_dim: int,
        patch_nums: tuple[int, ...],
        cfg: CSPAConfig,
        *,
        num_groups: int,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not (cfg.same or cfg.cross):
            raise ValueError("CSPA needs cspa.same or cspa.cross; with neither there is no unit to build")
        self.norm = GroupNorm(channels, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.w_q = Linear(channels, cfg.dim, dtype=dtype, rngs=rngs)
        self.same = SameScale(size, prior_dim, cfg, dtype=dtype, rngs=rngs) if cfg.same else None
        self.cross = (
            CrossScale(size, prior_dim, emb_dim, patch_nums, cfg, dtype=dtype, rngs=rngs) if cfg.cross else None
        )
        self.w_o = Linear((cfg.same + cfg.cross) * cfg.dim, channels, dtype=dtype, kernel_init=ZEROS, rngs=rngs)

    def prepare(self, p: jax.Array, pyramid: tuple[jax.Array, ...]) -> tuple[KeyValue | None, KeyValue | None]:
        """What depends on the prior only, keys and values of each branch that is on.

        Args: p: (b, p_k, p_k, prior_dim), the level aligned with the stage. pyramid: all levels, coarse to fine.
        """
        return (
            None if self.same is None else self.same.prepare(p),
            None if self.cross is None else self.cross.prepare(pyramid),
        )

    def __call__(self, h: jax.Array, prepared: tuple[KeyValue | None, KeyValue | None], emb: jax.Array) -> jax.Array:
        """h'' of the equation above.

        Args: h: (b, R, R, channels). prepared: from `prepare`. emb: (b, emb_dim), the timestep embedding.
        """
        same, cross = prepared
        q = self.w_q(self.norm(h))
        read = []
        if self.same is not None and same is not None:
            read.append(self.same(q, same))
        if self.cross is not None and cross is not None:
            read.append(self.cross(q, cross, emb))
        return h + self.w_o(jnp.concatenate(read, axis=-1))
