"""CSPA, Cross-Scale Prior-Aligned Attention: a denoiser stage reads the prior at its own scale and at all scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from vdiffsr_jax.config import CSPAConfig
from vdiffsr_jax.models.layers import ZEROS, GroupNorm, KeyValue, Linear
from vdiffsr_jax.models.swin import BIAS_TABLE_INIT, NORM_EPS
from vdiffsr_jax.ops.attention import attention, attention_weights
from vdiffsr_jax.ops.embed import grid_centres, rotary_angles, rotate
from vdiffsr_jax.ops.window import relative_position_bias, window_attention

Map = Float[Array, "b R R c"]
Queries = Float[Array, "b R R dim"]  # rotated, those of all heads
Embedding = Float[Array, "b emb_dim"]  # of the timestep
Level = Float[Array, "b p p prior_dim"]
Cells = Int[Array, "n 2"]  # row and column in a map


class Prepared(NamedTuple):
    """What a unit computes from the prior alone: keys and values of each branch, None where it is off."""

    same: KeyValue | None
    cross: KeyValue | None


class Reading(NamedTuple):
    """How much n queries read of every cell, the softmax of each branch; None where a branch is off.

    `same`: the aligned level, zero outside of a query's window. `cross`: all levels, coarse to fine, zero where one is
    out of reach. Each branch sums to 1 for a query and head.
    """

    same: Float32[Array, "b *n heads p p"] | None
    cross: tuple[Float32[Array, "b *n heads _ _"], ...] | None


class Places(NamedTuple):
    """Rotary encoding of the centres of a grid's cells in one unit square, so that all scales share coordinates."""

    heads: int
    head_dim: int
    finest: int

    def rotate(self, x: Float[Array, "b n dim"], places: Float[np.ndarray, "n 2"]) -> Float[Array, "b n heads d"]:
        """Heads of tokens at `places`, rotated."""
        heads = x.reshape(*x.shape[:2], self.heads, self.head_dim)
        return rotate(heads, rotary_angles(places, self.head_dim, finest=self.finest))

    def rotate_map(self, x: Float[Array, "b s s dim"]) -> Float[Array, "b s s dim"]:
        """Every cell rotated by its own centre."""
        return self.rotate(x.reshape(x.shape[0], -1, x.shape[-1]), grid_centres(x.shape[1])).reshape(x.shape)

    def heads_at(self, q: Queries, at: Cells) -> Float[Array, "b n heads d"]:
        """Queries of a map at cells (row, column)."""
        return q[:, at[:, 0], at[:, 1]].reshape(q.shape[0], -1, self.heads, self.head_dim)


class SameScale(nnx.Module):
    """Queries attend to the aligned level's own cells in their window, with a bias per relative cell.

    A window holds `cfg.window_size` squared cells, or the whole level where that does not divide it; its queries are
    all finer positions in the same area.
    Raises: ValueError if the stage does not divide into the level's windows.
    """

    def __init__(
        self,
        size: int,
        cells: int,
        prior_dim: int,
        cfg: CSPAConfig,
        places: Places,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.window = cells if cells % cfg.window_size else cfg.window_size
        windows = cells // self.window
        if size % windows:
            raise ValueError(f"a stage of {size}x{size} does not divide into its level's {windows}x{windows} windows")
        self.queries = size // windows
        self.places = places
        self.kv = Linear(prior_dim, 2 * cfg.dim, dtype=dtype, rngs=rngs)
        table = ((2 * self.window - 1) ** 2, places.heads)
        self.bias_table = nnx.Param(BIAS_TABLE_INIT(rngs.params(), table, jnp.float32))

    def prepare(self, p: Level) -> KeyValue:
        """Rotated keys, and values, of the aligned level, both (b, p, p, dim)."""
        k, v = jnp.split(self.kv(p), 2, axis=-1)
        return KeyValue(self.places.rotate_map(k), v)

    def __call__(self, q: Queries, prepared: KeyValue) -> Queries:
        """What rotated queries read."""
        bias = relative_position_bias(self.bias_table[...], self.window, self.queries)
        return window_attention(q, *prepared, bias, window=self.queries)

    def weights(self, q: Queries, prepared: KeyValue, at: Cells) -> Float32[Array, "b n heads p p"]:
        """`Reading.same` of the queries at (n, 2), (row, column) in the rotated map q (b, R, R, dim)."""
        b, p = q.shape[0], prepared[0].shape[1]
        side, windows, d = self.window, p // self.window, self.places.head_dim
        area, inside = jnp.divmod(at, self.queries)
        k = prepared[0].reshape(b, windows, side, windows, side, -1, d).swapaxes(2, 3)[:, area[:, 0], area[:, 1]]
        bias = relative_position_bias(self.bias_table[...], side, self.queries)
        bias = bias[:, inside[:, 0] * self.queries + inside[:, 1]].swapaxes(0, 1)[None, :, :, None]
        one_each = self.places.heads_at(q, at)[:, :, None]
        seen = attention_weights(one_each, k.reshape(b, -1, side * side, *k.shape[-2:]), scale=d**-0.5, bias=bias)
        rows, columns = jnp.moveaxis(jax.nn.one_hot(area, windows), 1, 0)
        seen = jnp.einsum("bnhyx,nr,nc->bnhrycx", seen.reshape(*seen.shape[:3], side, side), rows, columns)
        return seen.reshape(*seen.shape[:3], p, p)


class CrossScale(nnx.Module):
    """Every query attends to the tokens of all levels of its VAR window.

    Token (i, j) of level k and query (a, b) stand at the centres of their cells in one unit square; 2-D rotary encoding
    of these places aligns the scales. A bias per head and level, linear in the timestep embedding and zero at the
    start, says which levels a step reads. `cfg.levels` leaves only those levels in reach; parameters do not change.
    """

    def __init__(
        self,
        prior_dim: int,
        emb_dim: int,
        patch_nums: tuple[int, ...],
        cfg: CSPAConfig,
        places: Places,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.patch_nums = patch_nums
        self.levels = cfg.levels or tuple(range(len(patch_nums)))
        self.places = places
        self.kv = Linear(prior_dim, 2 * cfg.dim, dtype=dtype, rngs=rngs)
        self.level_bias = Linear(emb_dim, places.heads * len(patch_nums), kernel_init=ZEROS, rngs=rngs)

    def prepare(self, pyramid: tuple[Float[Array, "b _ _ prior_dim"], ...]) -> KeyValue:
        """Rotated keys and values of all tokens read: two of (b, tokens, heads, head_dim)."""
        tokens = jnp.concatenate(
            [pyramid[k].reshape(pyramid[k].shape[0], -1, pyramid[k].shape[-1]) for k in self.levels], 1
        )
        k, v = jnp.split(self.kv(tokens), 2, axis=-1)
        k = self.places.rotate(k, np.concatenate([grid_centres(self.patch_nums[k]) for k in self.levels]))
        return KeyValue(k, v.reshape(k.shape))

    def __call__(self, q: Queries, prepared: KeyValue, emb: Embedding) -> Queries:
        """softmax(q k^T / sqrt(d) + level bias) v of rotated queries, the softmax in float32."""
        k, v = prepared
        heads, d = self.places.heads, self.places.head_dim
        queries = q.reshape(q.shape[0], -1, heads, d)
        return attention(queries, k, v, scale=d**-0.5, bias=self._bias(emb)).reshape(q.shape)

    def weights(
        self, q: Queries, prepared: KeyValue, emb: Embedding, at: Cells
    ) -> tuple[Float32[Array, "b n heads _ _"], ...]:
        """`Reading.cross` of the queries at (n, 2), (row, column) in the rotated map q (b, R, R, dim)."""
        queries, scale = self.places.heads_at(q, at), self.places.head_dim**-0.5
        seen = attention_weights(queries, prepared[0], scale=scale, bias=self._bias(emb)).swapaxes(1, 2)
        ends = np.cumsum([self.patch_nums[level] ** 2 for level in self.levels])
        reached = dict(zip(self.levels, jnp.split(seen, ends[:-1], axis=-1), strict=True))
        shapes = [(*seen.shape[:3], p, p) for p in self.patch_nums]
        return tuple(reached[k].reshape(s) if k in reached else jnp.zeros(s) for k, s in enumerate(shapes))

    def _bias(self, emb: Embedding) -> Float[Array, "b heads 1 tokens"]:
        """Of every token in reach, by its level."""
        level_of_token = np.concatenate([np.full(self.patch_nums[level] ** 2, level) for level in self.levels])
        by_level = self.level_bias(emb).reshape(-1, self.places.heads, 1, len(self.patch_nums))
        return by_level[..., level_of_token]


def aligned_level(patch_nums: Sequence[int], size: int) -> int:
    """Index of the finest level that is not finer than a stage of size x size.

    Raises: ValueError if every level is finer.
    """
    fitting = [k for k, p in enumerate(patch_nums) if p <= size]
    if not fitting:
        raise ValueError(f"no prior level of {tuple(patch_nums)} fits a stage of {size}x{size}")
    return fitting[-1]


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
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not (cfg.same or cfg.cross):
            raise ValueError("CSPA needs cspa.same or cspa.cross; with neither there is no unit to build")
        self.norm = GroupNorm(channels, eps=NORM_EPS, num_groups=num_groups, dtype=dtype)
        self.w_q = Linear(channels, cfg.dim, dtype=dtype, rngs=rngs)
        self.places = places = Places(cfg.dim // cfg.head_dim, cfg.head_dim, finest=max(patch_nums))
        cells = patch_nums[aligned_level(patch_nums, size)]
        self.same = SameScale(size, cells, prior_dim, cfg, places, dtype=dtype, rngs=rngs) if cfg.same else None
        self.cross = (
            CrossScale(prior_dim, emb_dim, patch_nums, cfg, places, dtype=dtype, rngs=rngs) if cfg.cross else None
        )
        self.w_o = Linear((cfg.same + cfg.cross) * cfg.dim, channels, dtype=dtype, kernel_init=ZEROS, rngs=rngs)

    def prepare(self, p: Level, pyramid: tuple[Float[Array, "b _ _ prior_dim"], ...]) -> Prepared:
        """What depends on the prior only, keys and values of each branch that is on.

        Args: p: the level aligned with the stage. pyramid: all levels, coarse to fine.
        """
        return Prepared(
            None if self.same is None else self.same.prepare(p),
            None if self.cross is None else self.cross.prepare(pyramid),
        )

    def __call__(self, h: Map, prepared: Prepared, emb: Embedding) -> Map:
        """h'' of the equation above; `prepared` comes from `prepare`, `emb` is the timestep embedding."""
        same, cross = prepared
        q = self._queries(h)
        read = []
        if self.same is not None and same is not None:
            read.append(self.same(q, same))
        if self.cross is not None and cross is not None:
            read.append(self.cross(q, cross, emb))
        return h + self.w_o(jnp.concatenate(read, axis=-1))

    def read(self, h: Map, prepared: Prepared, emb: Embedding, at: Cells) -> Reading:
        """What a call with the same arguments weighs the prior with, for the queries at `at` (n, 2)."""
        same, cross = prepared
        q = self._queries(h)
        return Reading(
            None if self.same is None or same is None else self.same.weights(q, same, at),
            None if self.cross is None or cross is None else self.cross.weights(q, cross, emb, at),
        )

    def _queries(self, h: Map) -> Queries:
        return self.places.rotate_map(self.w_q(self.norm(h)))
