"""Blur and resampling of float32 images (h, w, c) on the host, one thread each."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy import fft, sparse

from vdiffsr_jax.ops.kernels import cubic, tent


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolution with a (k, k) kernel, k odd, borders mirrored without repeating the edge; same shape, float32."""
    half = kernel.shape[0] // 2
    height, width = image.shape[:2]
    padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")
    # A circular convolution is right wherever the kernel does not reach round the padded image.
    shape = [fft.next_fast_len(n, real=True) for n in padded.shape[:2]]
    spectrum = fft.rfft2(padded.transpose(2, 0, 1), shape)
    spectrum *= fft.rfft2(kernel, shape)[None]
    full = fft.irfft2(spectrum, shape, overwrite_x=True)
    out = full[:, 2 * half : 2 * half + height, 2 * half : 2 * half + width]
    return np.ascontiguousarray(out.transpose(1, 2, 0))


def resize(image: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resample to (height, width, c), float32; cubic modes may overshoot. Modes: see `weights`."""
    if image.shape[0] != height:
        image = _rows(image, weights(image.shape[0], height, mode))
    if image.shape[1] != width:
        turned = _rows(image.transpose(1, 0, 2), weights(image.shape[1], width, mode))
        image = np.ascontiguousarray(turned.transpose(1, 0, 2))
    return image


def _rows(image: np.ndarray, matrix: sparse.csr_array) -> np.ndarray:
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    resized: np.ndarray = matrix @ flat
    return resized.reshape(-1, *image.shape[1:])


@functools.lru_cache(maxsize=512)
def weights(n_in: int, n_out: int, mode: str) -> sparse.csr_array:
    """Sparse weights W of one axis, out = W in, (n_out, n_in) float32; rows sum to one.

    area: adaptive average pooling, bin i covers floor(i n_in / n_out) .. ceil((i + 1) n_in / n_out).
    bilinear, bicubic (a = -0.75): half-pixel centres, two or four taps at any scale, edge pixels repeated: they alias
    when they shrink, as the published degradation does.
    antialiased_bilinear, antialiased_bicubic (a = -0.5): the kernel widens when it shrinks and is renormalised at the
    edges, as photo programs do.

    Raises: ValueError for an unknown mode.
    """
    out = np.arange(n_out)
    if mode == "area":
        first, last = out * n_in // n_out, -(-(out + 1) * n_in // n_out)
        source = first[:, None] + np.arange((last - first).max())[None]
        value = (source < last[:, None]).astype(np.float64)
    elif mode in _FILTERS:
        filter_, radius, antialias = _FILTERS[mode]
        stretch = max(1.0, n_in / n_out) if antialias else 1.0
        centre = (out + 0.5) * n_in / n_out - 0.5
        source = (
            np.floor(centre - radius * stretch).astype(int)[:, None] + np.arange(int(2 * radius * stretch) + 3)[None]
        )
        value = filter_((source - centre[:, None]) / stretch)
        if antialias:
            value[(source < 0) | (source >= n_in)] = 0
    else:
        raise ValueError(f"unknown resize mode {mode!r}; known: area, {', '.join(_FILTERS)}")
    value /= value.sum(1, keepdims=True)
    rows = np.broadcast_to(out[:, None], source.shape)
    triplets = (value.ravel(), (rows.ravel(), np.clip(source, 0, n_in - 1).ravel()))
    matrix = sparse.coo_array(triplets, shape=(n_out, n_in), dtype=np.float32).tocsr()
    matrix.eliminate_zeros()
    return matrix


_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, bool]] = {
    "bilinear": (tent, 1, False),
    "bicubic": (cubic, 2, False),
    "antialiased_bilinear": (tent, 1, True),
    "antialiased_bicubic": (functools.partial(cubic, a=-0.5), 2, True),
}
