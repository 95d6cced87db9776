"""NIQE: how far an image's local statistics lie from those of pristine photos, without a reference; lower is better.

python -m vdiffsr_jax.metrics.niqe --fit PHOTOS --output niqe.npz

Source: Mittal, Soundararajan, Bovik, Making a Completely Blind Image Quality Analyzer (IEEE SPL 2013).
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io
from jax.scipy.special import gammaln
from scipy import special

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.metrics.precision import in_float64
from vdiffsr_jax.photos.kinds import SUFFIXES, is_photo
from vdiffsr_jax.photos.photo import ImageError
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.photos.write import write_whole
from vdiffsr_jax.weights import storage

BLOCK = 96
SHARPEST = 0.75
_SIGMA = 7 / 6
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Antialiased bicubic (a = -0.5) at exactly one half: eight taps between the two middle pixels.
_HALVING = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
_SHAPES = np.arange(0.2, 10.0005, 0.001)
_KEYS = (("mu_prisparam", "cov_prisparam"), ("mu_pris_param", "cov_pris_param"))


class NiqeError(ExpectedError, ValueError):
    """An image or a parameter file cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class Pristine:
    """Multivariate Gaussian of the 36 features over sharp blocks of pristine photos: `mean` (36,), `cov` (36, 36)."""

    mean: np.ndarray
    cov: np.ndarray

    def save(self, path: Path) -> None:
        """Write an .npz under the key names of the released parameters. Raises: ImageError."""
        file = io.BytesIO()
        np.savez(file, mu_prisparam=self.mean, cov_prisparam=self.cov)
        write_whole(path, [file.getbuffer()])

    @classmethod
    def load(cls, path: Path) -> Pristine:
        """Read our .npz, the authors' .mat (keys mu_prisparam, cov_prisparam) or BasicSR's .npz (mu_pris_param ...).

        Raises: NiqeError if the file is missing, damaged or holds something else.
        """
        try:
            content = scipy.io.loadmat(path) if path.suffix.lower() == ".mat" else np.load(path, allow_pickle=False)
            keys = next((keys for keys in _KEYS if keys[0] in content), _KEYS[0])
            mean, cov = (np.asarray(content[key], np.float64) for key in keys)
        except OSError as error:
            raise NiqeError(f"{path} cannot be read: {error.strerror or error}") from error
        except KeyError as error:
            raise NiqeError(f"{path} holds no NIQE parameters: {error.args[0]}") from error
        except Exception as error:  # a reader given another format may raise anything
            raise NiqeError(f"{path} is neither an .npz nor a .mat file of NIQE parameters ({error})") from error
        if mean.size != 36 or cov.shape != (36, 36):
            raise NiqeError(f"{path}: mean {mean.shape} and covariance {cov.shape} are not those of 36 features")
        return cls(mean.reshape(36), cov)


def niqe(image: np.ndarray, pristine: Pristine) -> float:
    """D = sqrt((m_1 - m_2)^T ((S_1 + S_2) / 2)^+ (m_1 - m_2)) of an image (h, w, 3) uint8.

    Every whole block of 96 pixels counts, sharp or not.

    Raises: NiqeError if fewer than two blocks fit, or fewer than two have any texture.
    Source: eq. 10.
    """
    blocks, _ = block_features(image)
    mean, cov = _gaussian(blocks)
    difference = pristine.mean - mean
    squared = difference @ np.linalg.pinv((pristine.cov + cov) / 2) @ difference
    return float(np.sqrt(max(squared, 0.0)))


def fit(images: Iterable[np.ndarray]) -> Pristine:
    """The Gaussian of pristine images, from blocks whose sharpness exceeds 0.75 of their image's sharpest.

    Raises: NiqeError if they give fewer than 37 blocks: the covariance of 36 features would be singular.
    """
    chosen = []
    for image in images:
        blocks, sharpness = block_features(image)
        chosen.append(blocks[sharpness > SHARPEST * sharpness.max()])
    blocks = np.concatenate(chosen) if chosen else np.empty((0, 36))
    usable = int(np.isfinite(blocks).all(1).sum())
    if usable < 37:
        raise NiqeError(
            f"{usable} sharp blocks of {BLOCK} pixels are too few (37 at least); give more or larger photos"
        )
    return Pristine(*_gaussian(blocks))


def grey(image: np.ndarray) -> np.ndarray:
    """.299 R + .587 G + .114 B of (h, w, 3) uint8, full range, rounded to whole numbers; (h, w) float64."""
    luma: np.ndarray = np.round(image @ np.array([0.299, 0.587, 0.114]))
    return luma


def block_features(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """36 features of every whole block, (n, 36), 18 at each of two scales; and the blocks' sharpness, (n,).

    A feature is not finite where a block has no texture. Sharpness is the mean of the local deviation.

    Raises: NiqeError if fewer than two blocks fit.
    """
    y = grey(image)
    rows, columns = (n // BLOCK for n in y.shape)
    if rows * columns < 2:
        raise NiqeError(f"NIQE needs at least two blocks of {BLOCK} pixels; {y.shape[1]} x {y.shape[0]} are too few")
    features, sharpness = _two_scales(y[: rows * BLOCK, : columns * BLOCK])
    return np.asarray(features), np.asarray(sharpness)


@in_float64
def _two_scales(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    normalized, deviation = mscn(y)
    fine = _features(_blocks(normalized, BLOCK))
    coarse = _features(_blocks(mscn(halve(y))[0], BLOCK // 2))
    return jnp.concatenate([fine, coarse], 1), _blocks(deviation, BLOCK).mean((1, 2))


@in_float64
def mscn(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean-subtracted contrast-normalised luma (y - mu) / (sigma + 1), and sigma; both (h, w), y in 0..255.

    Local moments under a 7x7 Gaussian of sigma 7/6, edge pixels repeated.

    Source: eq. 1 to 3.
    """
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * _SIGMA**2))
    kernel /= kernel.sum()

    def local(x: jax.Array) -> jax.Array:
        return _along(_along(x, kernel, 0), kernel, 1)

    padded = jnp.pad(y, 3, mode="edge")
    mean = local(padded)
    deviation = jnp.sqrt(jnp.abs(local(padded * padded) - mean * mean))
    return (y - mean) / (deviation + 1), deviation


@in_float64
def halve(y: jax.Array) -> jax.Array:
    """Half the size by antialiased bicubic, mirrored at the edges; (h, w) even -> (h / 2, w / 2)."""
    for axis in (0, 1):
        # Tap k of output i is pixel 2i + k - 3: eight pixels around the middle between 2i and 2i + 1.
        width = [(3, 4) if a == axis else (0, 0) for a in (0, 1)]
        y = _along(jnp.pad(y, width, mode="symmetric"), _HALVING, axis, step=2)
    return y


def _along(x: jax.Array, kernel: np.ndarray, axis: int, step: int = 1) -> jax.Array:
    """sum_k kernel[k] x[step i + k] of every i where the kernel fits."""
    n = x.shape[axis] - len(kernel) + 1
    shifted = (jax.lax.slice_in_dim(x, k, k + n, step, axis) for k in range(len(kernel)))
    return sum(float(w) * part for w, part in zip(kernel, shifted, strict=True))  # type: ignore[return-value]


@in_float64
def aggd(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Shape alpha and scales beta_l, beta_r of an asymmetric generalised Gaussian, fitted to each row of (n, samples).

    Density ~ exp(-(|x| / beta)^alpha) with beta_l left and beta_r right of zero. Not finite for rows without samples on
    both sides.

    Source: moment estimator of Lasmar, Stitou, Berthoumieu (ICIP 2009); shapes 0.2..10 from a table, interpolated.
    """
    squared = x * x
    left, right = (jnp.sqrt(jnp.where(side, squared, 0).sum(1) / side.sum(1)) for side in (x < 0, x > 0))
    skew = left / right
    ratio = jnp.abs(x).mean(1) ** 2 / squared.mean(1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    alpha = jnp.interp(ratio, _moment_ratio(_SHAPES), _SHAPES)
    scale = jnp.exp((gammaln(1 / alpha) - gammaln(3 / alpha)) / 2)
    return alpha, left * scale, right * scale


def _moment_ratio(alpha: np.ndarray) -> np.ndarray:
    """E|x|^2 / E x^2 = Gamma(2/alpha)^2 / (Gamma(1/alpha) Gamma(3/alpha)) of a generalised Gaussian; rises."""
    g = special.gammaln
    ratio: np.ndarray = np.exp(2 * g(2 / alpha) - g(1 / alpha) - g(3 / alpha))
    return ratio


def _features(blocks: jax.Array) -> jax.Array:
    """18 features of MSCN blocks (n, s, s): shape and scale, then shape, mean and scales of four neighbour products.

    Neighbours wrap around inside a block, as in the released model.
    """
    flat = blocks.reshape(len(blocks), -1)
    alpha, left, right = aggd(flat)
    features = [alpha, (left + right) / 2]
    for shift in _SHIFTS:
        products = blocks * jnp.roll(blocks, shift, (1, 2))
        alpha, left, right = aggd(products.reshape(flat.shape))
        mean = (right - left) * jnp.exp(gammaln(2 / alpha) - gammaln(1 / alpha))
        features += [alpha, mean, left, right]
    return jnp.stack(features, 1)


def _blocks(x: jax.Array, size: int) -> jax.Array:
    rows, columns = (n // size for n in x.shape)
    return x.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(-1, size, size)


def _gaussian(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks = blocks[np.isfinite(blocks).all(1)]
    if len(blocks) < 2:
        raise NiqeError("NIQE needs at least two blocks with texture; this image is flat")
    return blocks.mean(0), np.cov(blocks, rowvar=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit the pristine model; exit code 0, 1 if photos were left out, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m vdiffsr_jax.metrics.niqe", description="Fit NIQE's pristine model."
    )
    parser.add_argument(
        "--fit", type=Path, required=True, metavar="PHOTOS", help="folder of pristine photos (recursive)"
    )
    parser.add_argument("--output", type=storage.on_disk, required=True, help="the .npz to write")
    args = parser.parse_args(argv)
    files = sorted(p for p in args.fit.rglob("*") if is_photo(p) and p.is_file())
    failed: list[str] = []
    try:
        if not files:
            raise NiqeError(f"--fit {args.fit}: no photos there ({', '.join(SUFFIXES)})")
        if args.output.suffix != ".npz":
            raise NiqeError(f"--output {args.output} must end in .npz")
        fit(_read_all(files, failed)).save(args.output)
    except (ExpectedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    left_out = f", {len(failed)} left out" if failed else ""
    print(f"{len(files) - len(failed)} photos fitted{left_out}: {args.output}")
    return 1 if failed else 0


def _read_all(files: Sequence[Path], failed: list[str]) -> Iterable[np.ndarray]:
    for path in files:
        try:
            image = read(path, max_pixels=None).rgb8()
            if (image.shape[0] // BLOCK) * (image.shape[1] // BLOCK) < 2:
                raise NiqeError(f"{image.shape[1]} x {image.shape[0]} pixels are less than two blocks of {BLOCK}")
        except (ImageError, NiqeError) as error:
            failed.append(path.name)
            print(f"{path}: left out ({error})", file=sys.stderr)
            continue
        yield image


if __name__ == "__main__":
    sys.exit(main())
