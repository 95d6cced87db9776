"""CLIPIQA: how much more a picture is like "Good image" than like "bad image", as CLIP sees both; no reference.

Source: Wang, Chan, Loy, Exploring CLIP for Assessing the Look and Feel of Images (arXiv:2207.12396), eq. 2, with the
five antonym pairs of pyiqa, which papers measure with; CLIP: Radford et al. (arXiv:2103.00020), ResNet-50 variant.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vdiffsr_jax.models.layers import Conv, LayerNorm, Linear
from vdiffsr_jax.models.perceptual import FrozenBatchNorm
from vdiffsr_jax.ops.attention import attention

# CLIP's token numbers of the prompts, pair by pair, the good one first.
_GOOD, _BAD, _IMAGE, _SHARP, _BLURRY, _EDGES = 886, 2103, 2867, 8157, 21977, 20938
_HIGH, _LOW, _RESOLUTION, _NOISE, _HYPHEN, _FREE, _NOISY = 1400, 1042, 9977, 9307, 268, 1139, 33495
PROMPTS = (
    (_GOOD, _IMAGE), (_BAD, _IMAGE),
    (_SHARP, _IMAGE), (_BLURRY, _IMAGE),
    (_SHARP, _EDGES), (_BLURRY, _EDGES),
    (_HIGH, _RESOLUTION, _IMAGE), (_LOW, _RESOLUTION, _IMAGE),
    (_NOISE, _HYPHEN, _FREE, _IMAGE), (_NOISY, _IMAGE),
)  # fmt: skip
START, END = 49406, 49407
HEAD_WIDTH = 64
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class CLIPIQAConfig:
    """CLIP's RN50 by default. `blocks`: of the four stages; `width`: channels of the first; `embed`: common to both."""

    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    embed: int = 1024
    text_width: int = 512
    text_depth: int = 12
    context: int = 77
    vocabulary: int = 49408


def average_pool(x: jax.Array) -> jax.Array:
    """Means of 2x2 pixels; an odd row or column at the end is left out."""
    pooled: jax.Array = nnx.avg_pool(x, (2, 2), (2, 2))
    return pooled


class ConvNorm(nnx.Module):
    """Convolution without bias and BatchNorm as it was trained to."""

    def __init__(self, c: int, o: int, kernel_size: int, *, stride: int = 1, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = Conv(c, o, kernel_size, stride=stride, use_bias=False, dtype=dtype, rngs=rngs)
        self.norm = FrozenBatchNorm(o, eps=_EPS)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class Bottleneck(nnx.Module):
    """ResNet's bottleneck; where it halves the map, a mean over 2x2 pixels does, and no stride."""

    def __init__(self, c: int, width: int, *, halve: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        self.halve = halve
        sizes = ((c, width, 1), (width, width, 3), (width, 4 * width, 1))
        self.convs = nnx.List([ConvNorm(*size, dtype=dtype, rngs=rngs) for size in sizes])
        self.skip = ConvNorm(c, 4 * width, 1, dtype=dtype, rngs=rngs) if halve or c != 4 * width else None

    def __call__(self, x: jax.Array) -> jax.Array:
        first, second, third = self.convs
        y = jax.nn.relu(second(jax.nn.relu(first(x))))
        if self.halve:
            x, y = average_pool(x), average_pool(y)
        return jax.nn.relu(third(y) + (x if self.skip is None else self.skip(x)))


class ImageTower(nnx.Module):
    """Pictures (b, h, w, 3), standardised, at least 32 pixels a side -> (b, embed).

    The last step is attention of the mean to all positions and itself, here without position embedding, so that any
    size will do.
    """

    def __init__(self, cfg: CLIPIQAConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        half = cfg.width // 2
        stem = ((3, half, 2), (half, half, 1), (half, cfg.width, 1))
        self.stem = nnx.List([ConvNorm(c, o, 3, stride=s, dtype=dtype, rngs=rngs) for c, o, s in stem])
        stages, c = [], cfg.width
        for i, count in enumerate(cfg.blocks):
            width = cfg.width << i
            blocks = []
            for j in range(count):
                blocks.append(Bottleneck(c, width, halve=i > 0 and j == 0, dtype=dtype, rngs=rngs))
                c = 4 * width
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.query, self.key, self.value = (Linear(c, c, dtype=dtype, rngs=rngs) for _ in range(3))
        self.out = Linear(c, cfg.embed, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in self.stem:
            x = jax.nn.relu(conv(x))
        x = average_pool(x)
        for stage in self.stages:
            for block in stage:
                x = block(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1)
        q, k, v = (_heads(y) for y in (self.query(x[:, :1]), self.key(x), self.value(x)))
        return self.out(attention(q, k, v, scale=HEAD_WIDTH**-0.5).reshape(x.shape[0], -1))


class TextBlock(nnx.Module):
    """Pre-norm attention of every token to those before it, and an MLP with CLIP's x sigmoid(1.702 x)."""

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm1, self.norm2 = (LayerNorm(width, eps=_EPS, dtype=dtype) for _ in range(2))
        self.qkv, self.out = (Linear(width, n * width, dtype=dtype, rngs=rngs) for n in (3, 1))
        self.fc1 = Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(4 * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        n = x.shape[1]
        q, k, v = (_heads(y) for y in jnp.split(self.qkv(self.norm1(x)), 3, axis=-1))
        before = jnp.tril(jnp.ones((n, n), bool))
        x = x + self.out(attention(q, k, v, scale=HEAD_WIDTH**-0.5, mask=before).reshape(x.shape))
        y = self.fc1(self.norm2(x))
        return x + self.fc2(y * jax.nn.sigmoid(1.702 * y))


class TextTower(nnx.Module):
    """Token numbers (b, n) and where each sentence ends (b,) -> (b, embed)."""

    def __init__(self, cfg: CLIPIQAConfig, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.token = nnx.Param(jnp.zeros((cfg.vocabulary, cfg.text_width)))
        self.position = nnx.Param(jnp.zeros((cfg.context, cfg.text_width)))
        self.blocks = nnx.List([TextBlock(cfg.text_width, dtype=dtype, rngs=rngs) for _ in range(cfg.text_depth)])
        self.norm = LayerNorm(cfg.text_width, eps=_EPS, dtype=dtype)
        self.out = Linear(cfg.text_width, cfg.embed, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: np.ndarray, ends: np.ndarray) -> jax.Array:
        x = self.token[...][tokens] + self.position[...][None, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x)[np.arange(len(ends)), ends])


class CLIPIQA(nnx.Module):
    """The mean over five pairs of how probable the good prompt is beside the bad one."""

    def __init__(self, cfg: CLIPIQAConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        self.image = ImageTower(cfg, dtype=dtype, rngs=rngs)
        self.text = TextTower(cfg, dtype=dtype, rngs=rngs)
        self.log_scale = nnx.Param(jnp.zeros(()))

    def __call__(
        self, x: Float[Array, "b h w 3"], prompts: Float[Array, "10 embed"] | None = None
    ) -> Float32[Array, " b"]:
        """Marks in 0..1 of pictures in [-1, 1]; `prompts`: of `embed_prompts`."""
        prompts = self.embed_prompts() if prompts is None else prompts
        mean, std = (jnp.asarray(v).reshape(1, 1, 1, 3) for v in (_MEAN, _STD))
        image = _unit(self.image(((x + 1) / 2 - mean) / std))
        logits = jnp.exp(self.log_scale[...]) * image @ prompts.T
        return jax.nn.softmax(logits.reshape(len(x), -1, 2), axis=-1)[..., 0].mean(-1)

    def embed_prompts(self) -> Float32[Array, "10 embed"]:
        """The ten prompts, of unit length: the same for every picture."""
        tokens, ends = prompt_tokens()
        return _unit(self.text(tokens, ends))


def prompt_tokens() -> tuple[np.ndarray, np.ndarray]:
    """The prompts' token numbers with start and end, filled up with zeros, (10, 6), and where they end, (10,).

    CLIP fills up to 77 tokens; no token sees one after it, so that changes nothing.
    """
    ends = np.array([len(prompt) + 1 for prompt in PROMPTS])
    tokens = np.zeros((len(PROMPTS), ends.max() + 1), np.int32)
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        row[: len(prompt) + 2] = START, *prompt, END
    return tokens, ends


def _heads(x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:2], -1, HEAD_WIDTH)


def _unit(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    unit: jax.Array = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return unit
