"""Pictures of what a model does inside: python docs/scripts/look_inside.py [--ckpt MODEL] [PICTURE ...]

Without --ckpt, of the model in the box. Asked of the interface of docs/api.md, but for enlarging and the codes; on the
example photos; extra `plots`. What VAR draws by itself comes from stages/, where it still has its head. `inverse` says
something of a student that had a teacher only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import matplotlib as mpl
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt
from PIL import Image

import vdiffsr_jax
from vdiffsr_jax.diffusion import resshift, sampler, schedule
from vdiffsr_jax.models.assembled import Assembled
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.swin_unet import swin_places
from vdiffsr_jax.models.var import VAR
from vdiffsr_jax.models.var_generate import make_generate
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.sampling.model import Model
from vdiffsr_jax.weights import checkpoint

ROOT = Path(__file__).parents[2]
EXAMPLES, PICTURES = ROOT / "vdiffsr_jax/assets/examples", ROOT / "docs/pictures"
INK = "#444444"
mpl.use("Agg")
plt.rcParams |= {"font.size": 9, "axes.edgecolor": INK, "axes.linewidth": 0.8, "axes.titlesize": 9, "savefig.dpi": 130,
                 "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip


def photo(file: Path) -> np.ndarray:
    """(h, w, 3) in [-1, 1]."""
    return np.asarray(Image.open(file).convert("RGB"), np.float32) / 127.5 - 1


def smaller(image: np.ndarray, factor: int = 4) -> np.ndarray:
    """(h, w, 3) -> means of squares of `factor` pixels."""
    h, w, c = image.shape
    return image.reshape(h // factor, factor, w // factor, factor, c).mean(axis=(1, 3))


def shown(image: np.ndarray) -> np.ndarray:
    """[-1, 1] -> [0, 1], clipped."""
    return np.clip((np.asarray(image) + 1) / 2, 0, 1)


def in_colours(*maps: np.ndarray) -> list[np.ndarray]:
    """Maps (..., dim) as colours: their three strongest directions, each from 0 to 1; grey where all is alike."""
    flat = np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps]).astype(np.float64)
    mean = flat.mean(axis=0)
    directions = np.linalg.svd(flat - mean, full_matrices=False)[2][:3]
    if np.ptp(flat, axis=0).max() < 1e-4:
        return [np.full((*m.shape[:-1], 3), 0.5) for m in maps]
    low, high = np.percentile((flat - mean) @ directions.T, (2, 98), axis=0)
    return [np.clip(((m - mean) @ directions.T - low) / (high - low), 0, 1) for m in maps]


def panels(rows: int, columns: int, side: float = 1.45, **options: object) -> tuple[plt.Figure, np.ndarray]:
    """A figure of square panels without axes."""
    figure, axes = plt.subplots(rows, columns, figsize=(columns * side, rows * (side + 0.25)), squeeze=False,
                                layout="constrained", **options)  # fmt: skip
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def show(axis: plt.Axes, image: np.ndarray, title: str) -> None:
    """One picture, its pixels square."""
    axis.imshow(image, interpolation="nearest")
    axis.set_title(title)


def save(figure: plt.Figure, name: str) -> None:
    """Write docs/pictures/NAME with at most 256 colours."""
    path = PICTURES / name
    figure.savefig(path)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


def tile(model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """HR (1, 4t, 4t, 3), LR (1, t, t, 3), and their latents z_0, z_y, of an HR photo's middle."""
    hr, t = photo(PICTURES / "cups_hr.png"), model.tile
    start = (hr.shape[0] - 4 * t) // 2
    hr = hr[start : start + 4 * t, start : start + 4 * t]
    lr = smaller(hr)[None]
    enlarged = Assembled.enlarge(model._model.assembled, lr)
    return hr[None], lr, np.asarray(model.encode(hr[None])), np.asarray(model.encode(enlarged))


def shifting(model: Model) -> None:
    """z_t of a photo, decoded, from HR to the start of sampling; and the two curves that make it."""
    full = schedule.make(schedule.PUBLISHED["resshift_v1v2"])
    hr, _, z_0, z_y = tile(model)
    noise = np.asarray(jax.random.normal(jax.random.key(0), z_0.shape))
    figure, axes = panels(1, 7)
    show(axes[0, 0], shown(hr[0]), "HR")
    for axis, t in zip(axes[0, 1:], (0, 2, 5, 8, 11, 14), strict=True):
        z_t = resshift.q_sample(z_0, z_y, full.sqrt_eta[t], noise, kappa=full.kappa)
        show(axis, shown(model.decode(z_t)[0]), f"z at t = {t + 1}")
    save(figure, "shifting.png")

    figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.3), layout="constrained")
    for name, colour, words in (("resshift_v1v2", "#4a6fa5", "15 steps"), ("resshift_v3", "#c58b1a", "4 steps")):
        line = schedule.make(schedule.PUBLISHED[name])
        steps = np.linspace(0, 1, line.num_steps)
        axes[0].plot(steps, line.eta, "o-", color=colour, markersize=3, label=words)
        axes[1].plot(steps, line.kappa * line.sqrt_eta, "o-", color=colour, markersize=3, label=words)
    axes[0].set_title("η_t: how far z_t has moved from HR to LR")
    axes[1].set_title("κ √η_t: standard deviation of the noise on it")
    for axis in axes:
        axis.set_xticks([0, 1], ["first step", "last step T"])
    axes[0].legend(frameon=False)
    save(figure, "schedule.png")


def inverse(model: Model) -> None:
    """One step from noise to picture, and back: f(z_0, 0) says which noise would have led there."""
    steps = schedule.make(model.config.schedule)
    hr, lr, z_0, z_y = tile(model)
    scale = steps.kappa * steps.sqrt_eta[-1]
    noise = np.asarray(jax.random.normal(jax.random.key(1), z_0.shape))

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        return model.denoise(x, t, lr)

    made = np.asarray(sampler.sample_one_step(denoise, steps, z_y, noise))
    back = np.asarray(sampler.predict_z_T(denoise, steps, made))
    again = np.asarray(sampler.predict_z_0(denoise, steps, back, steps.num_steps - 1))
    of_hr = np.asarray(sampler.predict_z_T(denoise, steps, z_0))
    from_hr = np.asarray(sampler.predict_z_0(denoise, steps, of_hr, steps.num_steps - 1))
    found = (back - z_y) / scale
    print(f"inverse: correlation of noise and predicted noise {np.corrcoef(noise.ravel(), found.ravel())[0, 1]:.3f}")
    errors = [float(np.sqrt(np.mean((z - z_0) ** 2))) for z in (made, from_hr)]
    print(f"inverse: latent error from drawn noise {errors[0]:.3f}, from the photo's own {errors[1]:.3f}")

    def grey(eps: np.ndarray) -> np.ndarray:
        return np.repeat(np.clip(eps[0, ..., :1] / 5 + 0.5, 0, 1), 3, axis=-1)

    figure, axes = panels(2, 5)
    top = (shown(lr[0]), "LR"), (grey(noise), "noise ε, channel 1"), (shown(model.decode(made)[0]), "f(z_T, T)")
    top += (grey(found), "noise by f(z_0, 0)"), (shown(model.decode(again)[0]), "f of that, T")
    bottom = (shown(hr[0]), "HR"), (None, ""), (shown(model.decode(z_0)[0]), "its latent, decoded")
    bottom += (
        (grey((of_hr - z_y) / scale), "noise by f(z_0 of HR, 0)"),
        (shown(model.decode(from_hr)[0]), "f of that, T"),
    )
    for axis, (image, title) in zip(axes.flat, top + bottom, strict=True):
        if image is not None:
            show(axis, image, title)
    save(figure, "inverse.png")


def tiles(image: np.ndarray, side: int) -> np.ndarray:
    """(n side, m side, 3) -> (n m, side, side, 3)."""
    n, m = image.shape[0] // side, image.shape[1] // side
    return image.reshape(n, side, m, side, -1).swapaxes(1, 2).reshape(n * m, side, side, -1)


def joined(parts: np.ndarray, rows: int) -> np.ndarray:
    """`tiles` the other way round."""
    n, side, _, c = parts.shape
    return parts.reshape(rows, n // rows, side, side, c).swapaxes(1, 2).reshape(rows * side, -1, c)


def pyramid(model: Model) -> None:
    """The tokenizer's sums f_hat_k, and the prior's maps P_k, of all tiles of a photo."""
    image = photo(EXAMPLES / "picosdeeuropa.png")
    rows, lr = image.shape[0] // model.tile, tiles(image, model.tile)
    maps = [np.asarray(level) for level in model.prior(lr)]
    sums = code_sums(model, lr)
    colours = smaller(image, model.tile // sums[0].shape[1])
    figure, axes = panels(2, len(maps) + 1)
    show(axes[0, 0], shown(image), f"LR, {rows}×{rows} tiles")
    fit = [joined(f, rows) for f in sums]
    features = np.concatenate([np.ones((*fit[-1].shape[:2], 1)), fit[-1]], axis=-1)
    to_colour = np.linalg.lstsq(features.reshape(-1, features.shape[-1]), colours.reshape(-1, 3), rcond=None)[0]
    for k, (f, level) in enumerate(zip(fit, maps, strict=True)):
        p = level.shape[1]
        show(axes[0, k + 1], shown(to_colour[0] + f @ to_colour[1:]), f"f̂ of {k + 1} level{'s' * (k > 0)}")
        show(axes[1, k + 1], in_colours(joined(level, rows))[0], f"P, {p}×{p}")
    axes[1, 0].text(
        0.5, 0.5, "above: codes so far\nbelow: what VAR\nmakes of them", ha="center", va="center", fontsize=9
    )
    save(figure, "pyramid.png")


def code_sums(model: Model, lr: np.ndarray) -> list[np.ndarray]:
    """f_hat_k of LR tiles (n, t, t, 3): one (n, S, S, z) per level, from the prior's own tokenizer."""
    whole = model._model.assembled
    prior = nnx.merge(whole.networks["pvar"].graphdef, model._model.params["pvar"])
    return [
        np.asarray(f) for f in jax.jit(lambda window: prior.tokenizer.f_hats(prior.tokens(window)))(whole.enlarge(lr))
    ]


def samples(_: Model) -> None:
    """What the box's VAR draws by itself: one picture level by level, and eight more."""
    loaded = {name: checkpoint.load_model(ROOT / "stages" / name) for name in ("var", "tokenizer")}
    var, tokenizer = build(VAR, loaded["var"].config), build(VARTokenizer, loaded["tokenizer"].config)
    params = loaded["var"].items["var"], loaded["tokenizer"].items["var_tokenizer"]
    generate = make_generate(var, tokenizer, guidance=0.0, top_k=50)
    drawn, images = generate(*params, np.zeros(9, np.int32), jax.random.key(0))
    f_hats = tokenizer.method(VARTokenizer.f_hats)(params[1], [level[:1] for level in drawn.tokens])
    figure, axes = panels(2, len(f_hats))
    for axis, p, f_hat in zip(axes[0], loaded["var"].config.patch_nums, f_hats, strict=True):
        show(axis, shown(tokenizer.method(VARTokenizer.decode)(params[1], f_hat)[0]), f"up to {p}×{p}")
    for axis, image in zip(axes[1], images[1:], strict=False):
        axis.imshow(shown(image))
    save(figure, "var_samples.png")


def attention(model: Model) -> None:
    """What one pixel reads of the prior at every place of the denoiser, and what all pixels read on average."""
    image, t = photo(EXAMPLES / "colorfulcups.png"), model.tile
    crop = image[t : 2 * t, t : 2 * t]  # the second tile of the second row
    query = (t // 2, t // 2)
    places = swin_places(model.config.denoiser)
    pixels = np.stack(np.mgrid[:t, :t], axis=-1).reshape(-1, 2)
    readings = [model.attention(crop[None], place, pixels) for place in range(len(places))]
    levels = [level.shape[1] for level in model.prior(crop[None])]
    figure, axes = panels(len(places), 2 + len(levels), side=1.15)
    shares = []
    for row, ((_, size), reading) in enumerate(zip(places, readings, strict=True)):
        assert reading.same is not None
        assert reading.cross is not None
        at = query[0] * t + query[1]
        show(axes[row, 0], marked(crop, query, t // size), f"{row + 1}: {size}×{size}")
        same = np.asarray(reading.same[0, at].mean(axis=0))
        axes[row, 1].imshow(same, cmap="magma", vmin=0)
        axes[row, 1].set_title(f"same, {same.shape[0]}×{same.shape[0]}")
        cross = [np.asarray(level[0].mean(axis=1)) for level in reading.cross]
        shares.append([float(level.sum(axis=(1, 2)).mean()) for level in cross])
        for k, (p, level) in enumerate(zip(levels, cross, strict=True)):
            # Each level is drawn relative to its own strongest cell; the number is how much it gets in all.
            axes[row, 2 + k].imshow(level[at], cmap="magma", vmin=0)
            axes[row, 2 + k].set_title(f"{p}×{p}: {level[at].sum():.0%}")
    save(figure, "attention.png")

    uniform = np.square(levels) / np.square(levels).sum()
    figure, axis = plt.subplots(figsize=(7.6, 2.6), layout="constrained")
    names = [f"{i + 1}: {size}×{size}" for i, (_, size) in enumerate(places)]
    rows = [("all cells alike", uniform), *zip(names, shares, strict=True)]
    left = np.zeros(len(rows))
    for k, p in enumerate(levels):
        width = np.array([values[k] for _, values in rows])
        axis.barh([name for name, _ in rows], width, left=left, label=f"{p}×{p}", color=plt.cm.viridis(k / len(levels)))
        left += width
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_title("what the cross-scale branch reads of each level, mean over all pixels and heads")
    axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    save(figure, "attention_levels.png")
    for name, values in rows:
        print(f"attention: {name}  " + " ".join(f"{value:.3f}" for value in values))


def marked(image: np.ndarray, query: tuple[int, int], side: int) -> np.ndarray:
    """The picture with a red frame around the stage's cell of `side` pixels that holds the query."""
    shown_image = np.repeat(np.repeat(shown(image), 4, axis=0), 4, axis=1)
    top, left = (4 * side * (q // side) for q in query)
    inside = np.zeros(shown_image.shape[:2], bool)
    inside[top : top + 4 * side, left : left + 4 * side] = True
    inside[top + 1 : top + 4 * side - 1, left + 1 : left + 4 * side - 1] = False
    shown_image[inside] = (0.9, 0.1, 0.1)
    return shown_image


PARTS = {"shifting": shifting, "inverse": inverse, "pyramid": pyramid, "samples": samples, "attention": attention}


def main(arguments: Sequence[str]) -> None:
    """Make the pictures of these names, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", help="a model as sample.py takes it; default: the one in the box")
    parser.add_argument("names", nargs="*", help=", ".join(PARTS))
    args = parser.parse_args(arguments)
    model = vdiffsr_jax.load(args.ckpt, devices=1)
    for name in args.names or PARTS:
        PARTS[name](model)


if __name__ == "__main__":
    main(sys.argv[1:])
