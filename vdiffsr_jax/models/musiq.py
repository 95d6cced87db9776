"""MUSIQ: a mark for one picture without a reference, from patches of the whole picture at three sizes.

Source: Ke, Wang, Wang, Milanfar, Yang, MUSIQ: Multi-scale Image Quality Transformer (arXiv:2108.05997). Where the
authors' code and the one that papers measure with (pyiqa) differ, pyiqa is followed: pictures are made smaller by
bicubic without antialiasing, and GELU is exact.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int32

from vdiffsr_jax.models.layers import Conv, GroupNorm, LayerNorm, Linear
from vdiffsr_jax.ops import resize
from vdiffsr_jax.ops.attention import attention
from vdiffsr_jax.ops.conv import conv2d

PATCH = 32
LONGER_SIDES = (224, 384)  # then the picture as it is
GRID = 10  # cells a side of the position table
HEAD_WIDTH = 64
_STEM = 64
_STRIDE = 4  # of the stem, in pixels


@dataclasses.dataclass(frozen=True)
class MUSIQConfig:
    """`trained_on`: whose opinions it gives, and so the scale of its marks: koniq, spaq, ava or paq2piq.

    `classes`: 10 for a distribution over the marks 1..10 (AVA), whose mean is the mark; else 1.
    """

    trained_on: str = "koniq"
    depth: int = 14
    width: int = 384
    mlp_width: int = 1152
    classes: int = 1


class StdConv(Conv):
    """Convolution with standardised kernels, k = (w - mean(w)) / (std(w) + 1e-5) per output channel, 'same' padding."""

    def __init__(self, c: int, o: int, kernel_size: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs):
        total = kernel_size - stride  # of sides that `stride` divides
        pad = (max(total, 0) // 2, max(total, 0) - max(total, 0) // 2)
        super().__init__(
            c, o, kernel_size, stride=stride, padding=(pad, pad), use_bias=False, dtype=dtype, rngs=rngs
        )  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
        kernel = self.kernel[...]
        kernel = kernel - kernel.mean((0, 1, 2), keepdims=True)
        kernel = kernel / (kernel.std((0, 1, 2), keepdims=True, ddof=1) + 1e-5)
        return conv2d(x.astype(self.dtype), kernel.astype(self.dtype), None, stride=self.stride, padding=self.padding)


class Stem(nnx.Module):
    """Patches (n, 32, 32, 3) -> (n, 8, 8, 256): a root convolution, a maximum, one bottleneck of a ResNet."""

    def __init__(self, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def norm(channels: int, eps: float) -> GroupNorm:
            return GroupNorm(channels, eps=eps, num_groups=32, dtype=dtype)

        def conv(c: int, o: int, kernel_size: int, stride: int = 1) -> StdConv:
            return StdConv(c, o, kernel_size, stride=stride, dtype=dtype, rngs=rngs)

        self.root, self.root_norm = conv(3, _STEM, 7, stride=2), norm(_STEM, 1e-6)
        self.convs = nnx.List([conv(_STEM, _STEM, 1), conv(_STEM, _STEM, 3), conv(_STEM, 4 * _STEM, 1)])
        self.norms = nnx.List([norm(_STEM, 1e-4), norm(_STEM, 1e-4), norm(4 * _STEM, 1e-4)])
        self.skip, self.skip_norm = conv(_STEM, 4 * _STEM, 1), norm(4 * _STEM, 1e-4)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.root_norm(self.root(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding="SAME")
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(jax.nn.relu(y) if i else y))
        return jax.nn.relu(y + self.skip_norm(self.skip(x)))


class PatchBlock(nnx.Module):
    """Pre-norm attention of every token to every token, and an MLP; (b, n, width) -> the same."""

    def __init__(self, cfg: MUSIQConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        def linear(c: int, o: int) -> Linear:
            return Linear(c, o, dtype=dtype, rngs=rngs)

        width = cfg.width
        self.norm1, self.norm2 = (LayerNorm(width, eps=1e-6, dtype=dtype) for _ in range(2))
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = linear(width, cfg.mlp_width), linear(cfg.mlp_width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm1(x)
        q, k, v = (f(y).reshape(*y.shape[:2], -1, HEAD_WIDTH) for f in (self.query, self.key, self.value))
        x = x + self.out(attention(q, k, v, scale=HEAD_WIDTH**-0.5).reshape(x.shape))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class MUSIQ(nnx.Module):
    """Marks of pictures in [-1, 1], of any size, all of one size.

    Every size has its own number of patches; no sequence is filled up, so there is no padding to mask.
    Source: section 3; fig. 2.
    """

    def __init__(self, cfg: MUSIQConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.stem = Stem(dtype=dtype, rngs=rngs)
        side = PATCH // _STRIDE
        self.embed = Linear(side * side * 4 * _STEM, cfg.width, dtype=dtype, rngs=rngs)
        self.position = nnx.Param(jnp.zeros((GRID * GRID, cfg.width)))
        self.scale = nnx.Param(jnp.zeros((len(LONGER_SIDES) + 1, cfg.width)))
        self.first = nnx.Param(jnp.zeros((1, 1, cfg.width)))
        self.blocks = nnx.List([PatchBlock(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.depth)])
        self.norm = LayerNorm(cfg.width, eps=1e-6, dtype=dtype)
        self.head = Linear(cfg.width, cfg.classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w 3"]) -> Float32[Array, " b"]:
        b, h, w, _ = x.shape
        sizes = [_fitted(h, w, longer) for longer in LONGER_SIDES]
        pictures = [*(resize.bicubic(x, size) for size in sizes), x]
        cut = [patches(picture) for picture in pictures]
        y = self.stem(jnp.concatenate(cut, axis=1).reshape(-1, PATCH, PATCH, 3))
        y = self.embed(y.reshape(b, -1, y.shape[1] * y.shape[2] * y.shape[3]))
        where = [hashed_positions(*picture.shape[1:3]) for picture in pictures]
        place = jnp.concatenate(
            [self.position[...][cells] + self.scale[...][i : i + 1] for i, cells in enumerate(where)]
        )
        y = jnp.concatenate([jnp.broadcast_to(self.first[...], (b, 1, y.shape[-1])), y + place[None]], axis=1)
        for block in self.blocks:
            y = block(y)
        marks = self.head(self.norm(y[:, 0])).astype(jnp.float32)
        if marks.shape[-1] == 1:
            return marks[:, 0]
        return jax.nn.softmax(marks) @ jnp.arange(1.0, marks.shape[-1] + 1)


def patches(x: Float[Array, "b h w c"]) -> Float[Array, "b n 32 32 c"]:
    """Patches of 32x32 pixels, row by row, with zeros around the picture where 32 does not divide it."""
    b, h, w, c = x.shape
    rows, columns = -(-h // PATCH), -(-w // PATCH)
    around = [((rows * PATCH - h) // 2, -(-(rows * PATCH - h) // 2)),
              ((columns * PATCH - w) // 2, -(-(columns * PATCH - w) // 2))]  # fmt: skip
    x = jnp.pad(x, ((0, 0), *around, (0, 0))).reshape(b, rows, PATCH, columns, PATCH, c)
    return x.swapaxes(2, 3).reshape(b, rows * columns, PATCH, PATCH, c)


def hashed_positions(h: int, w: int) -> Int32[np.ndarray, " n"]:
    """For every patch of an (h, w) picture its cell in the 10x10 table of positions.

    Source: section 3.3, eq. 1.
    """
    rows, columns = (_cells(-(-n // PATCH)) for n in (h, w))
    cells: np.ndarray = rows[:, None] * GRID + columns[None]
    return cells.reshape(-1)


def _cells(count: int) -> np.ndarray:
    """Nearest cell of each of `count` patches along an axis, in float32 as torch counts."""
    cells: np.ndarray = np.floor(np.arange(count, dtype=np.float32) * (np.float32(GRID) / np.float32(count)))
    return cells.astype(np.int32)


def _fitted(h: int, w: int, longer: int) -> tuple[int, int]:
    ratio = longer / max(h, w)
    return round(h * ratio), round(w * ratio)
