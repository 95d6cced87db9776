"""Does the prior know more of the HR photo than the LR photo's own codes say? A linear probe, level by level.

    python -m benchmarks.probe --prior runs/box/align/best --photos photos/train --held-out photos/valid

At every level the HR photo's f_hat (the sum of all its codes, at the level's size) is read by ridge regression from the
LR photo's f_hat in the same cell, from that of the cell and its eight neighbours, from the prior's pyramid, and from
the last two together. Printed is the part of its variance that each explains on the held-out photos. If the pyramid
adds nothing to the codes, nothing that reads it linearly can use it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command import refusing
from vdiffsr_jax.config import ConfigError, PriorConfig
from vdiffsr_jax.config.ranges import Count, Seed, number
from vdiffsr_jax.data.config import PRESETS
from vdiffsr_jax.data.degradation import degrade
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params, build
from vdiffsr_jax.models.prior import Pyramid, TokenPrior
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.ops.resize import area, bicubic
from vdiffsr_jax.photos.photo import ImageError
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling.files import find
from vdiffsr_jax.weights import checkpoint

Windows = Sequence[tuple[np.ndarray, np.ndarray]]  # (HR, LR)
Level = tuple[np.ndarray, list[np.ndarray]]  # the goal in every cell, and the features of SOURCES
SOURCES = ("LR's codes", "their neighbours too", "the prior", "prior and neighbours")
BATCH = 4
# In units of a feature's variance; the best is chosen on photos of --photos that it was not fitted to.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


class Probed:
    """A prior that reads tokens, and what is read from it. Raises: ConfigError if the checkpoint has no such prior."""

    def __init__(self, directory: str):
        kind, config, _ = checkpoint.read_config(directory)
        if "pvar" not in kinds.item_names(kind, config):
            raise ConfigError(f"{directory} ({kind}) has no prior")
        self.cfg: PriorConfig = kinds.described(kind, "pvar", config)
        network = kinds.network(kind, "pvar", config)
        tokenizer = build(VARTokenizer, self.cfg.tokenizer, decoder=False, dtype=jnp.float32)
        self.params = checkpoint.load_model(directory, items=["pvar"], dtype=jnp.float32).items["pvar"]
        tokens, pyramid = network.method(TokenPrior.tokens), network.method(TokenPrior.from_tokens)

        @jax.jit
        def look(params: Params, hr: jax.Array, lr: jax.Array) -> tuple[list[jax.Array], list[jax.Array], Pyramid]:
            seen = tokens(params, bicubic(lr, (hr.shape[1], hr.shape[2])))
            return f_hats(params, tokens(params, hr)), f_hats(params, seen), pyramid(params, seen)

        def f_hats(params: Params, codes: list[jax.Array]) -> list[jax.Array]:
            whole = tokenizer.method(VARTokenizer.f_hats)(params["tokenizer"], codes)[-1]
            return [area(whole, (p, p)) for p in self.cfg.tokenizer.patch_nums]

        self._look = look

    def cells(self, hr: np.ndarray, lr: np.ndarray) -> list[Level]:
        """Of each level the HR's f_hat in every cell, (n, z), and the features of SOURCES, (n, d) each."""
        goals, own, pyramid = (
            [np.asarray(level) for level in levels]
            for levels in self._look(self.params, jnp.asarray(hr), jnp.asarray(lr))
        )
        levels = []
        for goal, codes, prior in zip(goals, own, pyramid, strict=True):
            near = neighbours(codes)
            features = [codes, near, prior, np.concatenate([prior, near], axis=-1)]
            levels.append((_flat(goal), [_flat(feature) for feature in features]))
        return levels


def neighbours(maps: np.ndarray, *, edge: Literal["edge", "constant"] = "edge") -> np.ndarray:
    """(b, p, p, z) -> (b, p, p, 9 z): each cell with the eight around it, the edge repeated or zeros beyond it."""
    wide = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)), edge)
    size = maps.shape[1]
    return np.concatenate([wide[:, i : i + size, j : j + size] for i in range(3) for j in range(3)], axis=-1)


def explained(
    train: tuple[np.ndarray, np.ndarray], choose: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray]
) -> float:
    """1 - |goal - read|^2 / |goal - mean|^2 on `held_out`, of the ridge regression that does best on `choose`.

    Args: each (goal (n, z), features (n, d)).
    """
    goal, x = train
    mean, middle, scale = x.mean(0), goal.mean(0), x.std(0) + 1e-6
    normal = (x - mean) / scale
    square, product = normal.T @ normal / len(x), normal.T @ (goal - middle) / len(x)

    def unexplained(part: tuple[np.ndarray, np.ndarray], weights: np.ndarray) -> float:
        wanted, seen = part
        left = wanted - middle - (seen - mean) / scale @ weights
        return float(np.square(left).sum() / np.square(wanted - wanted.mean(0)).sum())

    fitted = [np.linalg.solve(square + ridge * np.eye(len(square)), product) for ridge in RIDGES]
    best = min(fitted, key=lambda weights: unexplained(choose, weights))
    return 1 - unexplained(held_out, best)


def crops(photos: str, per_photo: int, window: int, degradation: str, seed: int | Sequence[int]) -> Windows:
    """(HR, LR) windows, photo after photo of those that are large enough, in [-1, 1]; the same for the same seed.

    Raises: ConfigError if there are too few; ImageError naming a broken photo.
    """
    rng, found = np.random.default_rng(seed), []
    for path, _ in find(photos):
        try:
            photo = read(path, max_pixels=None).rgb8()
        except ImageError as error:
            raise ImageError(f"{path} {error}") from None
        height, width = photo.shape[:2]
        for _ in range(per_photo if min(height, width) >= window else 0):
            top, left = rng.integers(height - window + 1), rng.integers(width - window + 1)
            hr = np.ascontiguousarray(photo[top : top + window, left : left + window])
            lr = degrade(hr, PRESETS[degradation], rng)
            found.append((hr.astype(np.float32) / 127.5 - 1, lr.astype(np.float32) / 127.5 - 1))
    if len(found) < 2 * BATCH:
        raise ConfigError(f"{photos} gives {len(found)} windows of {window} pixels, too few")
    return found


def gather(probed: Probed, windows: Windows) -> list[Level]:
    """The cells of all windows, level by level; windows that do not fill a batch are left out."""
    parts = [
        probed.cells(*(np.stack(half) for half in zip(*windows[i : i + BATCH], strict=True)))
        for i in range(0, len(windows) - BATCH + 1, BATCH)
    ]
    return [
        (
            np.concatenate([goal for goal, _ in level]),
            [np.concatenate(f) for f in zip(*(fs for _, fs in level), strict=True)],
        )
        for level in zip(*parts, strict=True)
    ]


def split(train: Windows, per_photo: int) -> tuple[Windows, Windows]:
    """Windows to fit to, and those of the last quarter of the photos, or of a batch at least, that choose the ridge.

    Raises: ConfigError if they are too few for both.
    """
    photos = len(train) // per_photo
    cut = (photos - max(photos // 4, -(-BATCH // per_photo))) * per_photo
    if cut < BATCH:
        raise ConfigError(f"--photos: {photos} photos of {per_photo} windows are too few to fit and to choose by")
    return train[:cut], train[cut:]


def table(probed: Probed, fit_to: Windows, choose_by: Windows, held_out: Windows) -> str:
    """A line a level."""
    fit, choose, test = (gather(probed, part) for part in (fit_to, choose_by, held_out))
    lines = [f"| level | {' | '.join(SOURCES)} |", f"| ---: |{' ---: |' * len(SOURCES)}"]
    for p, *level in zip(probed.cfg.tokenizer.patch_nums, fit, choose, test, strict=True):
        parts = [explained(*((goal, features[i]) for goal, features in level)) for i in range(len(SOURCES))]
        lines.append(f"| {p} | {' | '.join(f'{part:.3f}' for part in parts)} |")
    return "\n".join(lines)


def _flat(maps: np.ndarray) -> np.ndarray:
    return maps.reshape(-1, maps.shape[-1]).astype(np.float64)


@refusing
def main(arguments: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--prior", required=True, help="checkpoint of task align, or of a whole model")
    p.add_argument("--photos", required=True, help="HR photos to fit to: folder, file or quoted glob")
    p.add_argument("--held-out", required=True, help="other HR photos, to judge by")
    p.add_argument(
        "--per-photo", type=number(Count), default=2, help="windows of each photo (default: 2; held out: 8 times)"
    )
    p.add_argument("--degradation", default="mild", choices=sorted(PRESETS), help="of the LR (default: mild)")
    p.add_argument("--seed", type=number(Seed), default=0)
    args = p.parse_args(arguments)
    probed = Probed(args.prior)
    window = probed.cfg.tokenizer.window_size
    # Two streams: held-out windows have none of the places and noises of those that are fitted to.
    train = crops(args.photos, args.per_photo, window, args.degradation, args.seed)
    held_out = crops(args.held_out, 8 * args.per_photo, window, args.degradation, (args.seed, 1))
    fit_to, choose_by = split(train, args.per_photo)
    print(f"{len(train)} windows to fit to, {len(held_out)} held out; explained variance of the HR's f_hat")
    print(table(probed, fit_to, choose_by, held_out))


if __name__ == "__main__":
    sys.exit(main())
