"""Rendered pictures: gradients, shapes, line art and text, for tests without photos and for what photos lack."""

from __future__ import annotations

import functools
import math
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_OVERSAMPLING = 2
_LETTERS = np.array(list(string.ascii_letters * 3 + string.digits + "   .,:;!?-()&%"))


def picture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A square picture, (size, size, 3) uint8, every stroke from `rng`."""
    side = size * _OVERSAMPLING
    image = Image.fromarray(_gradient(rng, side))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 5)):
        painter = _PAINTERS[rng.choice(len(_PAINTERS), p=_SHARES)]
        painter(draw, rng, side)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def _gradient(rng: np.random.Generator, side: int) -> np.ndarray:
    """A bilinear blend of four colours, all near each other or not; at times one flat colour, which photos lack."""
    base, spread = np.array(_color(rng)), rng.choice([0, rng.uniform(0, 90)], p=[0.3, 0.7])
    corners = np.clip(base + rng.normal(0, spread, (2, 2, 3)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(corners).resize((side, side), Image.Resampling.BILINEAR))


def _color(rng: np.random.Generator) -> tuple[int, ...]:
    if rng.random() < 0.4:
        return (int(rng.choice([0, 20, 235, 255])),) * 3
    return tuple(int(v) for v in rng.integers(0, 256, 3))


def _points(rng: np.random.Generator, side: int, count: int) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in rng.uniform(-0.1 * side, 1.1 * side, (count, 2))]


def _shapes(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    for _ in range(rng.integers(1, 6)):
        if rng.random() < 0.5:
            draw.polygon(_points(rng, side, int(rng.integers(3, 7))), fill=_color(rng))
        else:
            (x, y), radius = _points(rng, side, 1)[0], rng.uniform(0.02, 0.3) * side
            stretch = rng.uniform(0.4, 1.0)
            draw.ellipse((x - radius, y - radius * stretch, x + radius, y + radius * stretch), fill=_color(rng))


def _strokes(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    for _ in range(rng.integers(3, 16)):
        points = np.array(_points(rng, side, 4))
        t = np.linspace(0, 1, 40)[:, None]
        curve = sum(math.comb(3, k) * (1 - t) ** (3 - k) * t**k * points[k][None] for k in range(4))
        draw.line([(float(x), float(y)) for x, y in curve], fill=_color(rng), width=_width(rng), joint="curve")


def _hatching(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    """Parallel lines or rings at one spacing: the repeating detail that aliases first."""
    color, width, gap = _color(rng), _width(rng), rng.uniform(4, 24) * _OVERSAMPLING
    (x, y), angle = _points(rng, side, 1)[0], rng.uniform(0, math.pi)
    along = np.array([math.cos(angle), math.sin(angle)]) * side * 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * (gap + width)
    rings = rng.random() < 0.3
    for k in range(1, int(rng.integers(6, 40))):
        if rings:
            r = k * (gap + width)
            draw.ellipse((x - r, y - r, x + r, y + r), outline=color, width=width)
        else:
            start, stop = np.array([x, y]) + across * k - along, np.array([x, y]) + across * k + along
            draw.line([tuple(map(float, start)), tuple(map(float, stop))], fill=color, width=width)


def _text(draw: ImageDraw.ImageDraw, rng: np.random.Generator, side: int) -> None:
    font = _font(int(rng.integers(9, 48)) * _OVERSAMPLING)
    color, (x, y) = _color(rng), rng.uniform(-0.1, 0.7, 2) * side
    for line in range(rng.integers(1, 12)):
        words = "".join(rng.choice(_LETTERS, int(rng.integers(3, 32))))
        draw.text((float(x), float(y + line * font.size * 1.25)), words, fill=color, font=font)


def _width(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 6)) * _OVERSAMPLING


@functools.lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own outline font. Raises: RuntimeError where Pillow was built without FreeType."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("rendered text needs a Pillow with FreeType, as its published wheels have")
    return font


_PAINTERS = (_shapes, _strokes, _hatching, _text)
_SHARES = (0.3, 0.25, 0.15, 0.3)
