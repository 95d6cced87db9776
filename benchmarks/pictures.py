"""What the pictures are worth: models beside bicubic and Real-ESRGAN, by measures that nothing was trained on.

    pip install imageio-ffmpeg                                              (for VMAF; development only)
    python -m benchmarks.real_esrgan --photos photos/valid --output results/real_esrgan              (once)
    python -m benchmarks.pictures --photos photos/valid --weights checkpoints --output results/pictures \\
        --pictures "Real-ESRGAN x4plus=results/real_esrgan" --ckpt box=vdiffsr_jax/assets/box

Five tables, as OUTPUT/pictures.md and scores.csv: photos degraded by `fixed`; clean ones (bicubic x1/4 alone); the way
from a model's sharp end to its faithful one; its first stage alone on the HR photos; plain colours. Scores are kept in
OUTPUT/scores.jsonl, so the same command goes on where it stopped, and only a changed model is measured again. Of a
--ckpt that is a first stage by itself there is only that table.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import glob
import io
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import vdiffsr_jax
from benchmarks.command import LeftOut, refusing, results
from benchmarks.vmaf import VMAF
from vdiffsr_jax.evaluation.cases import Case
from vdiffsr_jax.evaluation.pairs import parse_folders, read_plain
from vdiffsr_jax.evaluation.protocol import Protocol, read_cases
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.psnr_ssim import psnr
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.photos.kinds import is_photo
from vdiffsr_jax.photos.write import write_whole
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.sampling.results import fingerprint
from vdiffsr_jax.weights import checkpoint

Make = Callable[[Case], np.ndarray]
Score = Callable[[np.ndarray, np.ndarray], float]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
FLAT = 48  # LR pixels a side of a plain square
DEGRADED, CLEAN, FIDELITY, FIRST, PLAIN = "degraded", "clean", "fidelity", "first stage", "plain colours"
COLUMNS = {
    DEGRADED: ("psnr", "lpips_alex", "dists", "feature_distance", "niqe", "vmaf"),
    CLEAN: ("psnr", "lpips_alex"),
    FIDELITY: ("psnr", "lpips_alex"),
    FIRST: ("psnr_rgb", "lpips_alex", "vmaf"),
    PLAIN: ("largest", "of_mean"),
}
TITLES = {
    "vmaf": "VMAF", "psnr_rgb": "PSNR (RGB)", "largest": "largest error, levels", "of_mean": "error of the mean",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """A method in one table. `key`: what its scores depend on besides the photos; `open`: reads what it needs."""

    table: str
    method: str
    key: str
    open: Callable[[], Make]


class Kept:
    """Scores on disk, by table, method, key and picture; each line is written as soon as it is known.

    Raises: UsageError if a line is damaged that is not the last.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._scores: dict[tuple[str, ...], dict[str, float]] = {}
        whole, end, torn = (file.read_text() if file.exists() else "").rpartition("\n")
        if torn:  # killed while it was written
            write_whole(file, [(whole + end).encode()])
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                *place, scores = json.loads(line)
                self._scores[tuple(place)] = scores
            except (ValueError, TypeError):
                raise UsageError(f"{file}: line {number} is damaged; remove it") from None

    def get(self, row: Row, picture: str) -> dict[str, float] | None:
        """The scores, if they are known."""
        return self._scores.get((row.table, row.method, row.key, picture))

    def add(self, row: Row, picture: str, scores: dict[str, float]) -> None:
        """Keep one picture's scores."""
        place = (row.table, row.method, row.key, picture)
        self._scores[place] = scores
        with self._file.open("a") as file:
            file.write(json.dumps([*place, scores]) + "\n")


def rows(models: Mapping[str, Path], folders: Mapping[str, str], photos: str, names: Sequence[str]) -> Iterator[Row]:
    """Every method of every table, in the order of the tables. `names`: of those photos that are used."""
    for table in (DEGRADED, CLEAN):
        yield Row(table, "bicubic", "", lambda: lambda case: case.bicubic)
    for name, folder in folders.items():
        files = find_pictures(folder, photos, names)
        yield Row(DEGRADED, name, fingerprint(folder), functools.partial(_pictures, files))
    for name, directory in models.items():
        kind, config, _ = checkpoint.read_config(directory)
        key, load = fingerprint(directory), functools.cache(functools.partial(vdiffsr_jax.load, directory))
        if kind == "vqgan":
            yield Row(FIRST, name, key, functools.partial(_alone, directory))
            continue
        for table in (DEGRADED, CLEAN, PLAIN):
            yield Row(table, name, key, functools.partial(_upscaled, load, None))
        for table, share in [(CLEAN, 1.0), *((FIDELITY, share) for share in SHARES)] if config.sharp else ():
            yield Row(table, f"{name}, fidelity {share:g}", key, functools.partial(_upscaled, load, share))
        yield Row(FIRST, name, key, functools.partial(_first_stage, load))


def _upscaled(load: Callable[[], vdiffsr_jax.Model], share: float | None) -> Make:
    model = load()
    return lambda case: np.asarray(model.upscale(case.given, fidelity=share))


def _first_stage(load: Callable[[], vdiffsr_jax.Model]) -> Make:
    model = load()
    return _reconstructed(lambda image: model.decode(model.encode(image)))


def _alone(directory: Path) -> Make:
    model = checkpoint.load_model(directory, dtype=jnp.float32)
    network, params = kinds.network(model.kind, "vqgan", model.config), model.items["vqgan"]
    encode, decode = network.method(VQGAN.encode), network.method(VQGAN.decode)
    return _reconstructed(jax.jit(lambda image: decode(params, encode(params, image))))


def _reconstructed(through: Callable[[jax.Array], jax.Array]) -> Make:
    def reconstruct(case: Case) -> np.ndarray:
        image = through(jnp.asarray(case.hr, jnp.float32)[None] / 127.5 - 1)[0]
        return np.asarray(((jnp.clip(image, -1, 1) + 1) * 127.5).round().astype(jnp.uint8))

    return reconstruct


def find_pictures(folder: str, photos: str, names: Iterable[str]) -> dict[str, Path]:
    """{photo: its picture in a method's folder}. Raises: UsageError if one has none, or several."""
    targets, found = results(photos, Path(folder)), {}
    for name in names:
        beside = targets[name].parent.glob(f"{glob.escape(targets[name].stem)}.*")
        pictures = [file for file in beside if is_photo(file)]
        if len(pictures) != 1:
            raise UsageError(f"--pictures: {len(pictures)} pictures of {name} instead of {targets[name]}")
        found[name] = pictures[0]
    return found


def _pictures(files: Mapping[str, Path]) -> Make:
    def made(case: Case) -> np.ndarray:
        picture = read_plain(files[case.name])
        if picture.shape != case.hr.shape:
            (h, w), (height, width) = picture.shape[:2], case.hr.shape[:2]
            raise UsageError(f"{files[case.name]} has {w} x {h} pixels, not {width} x {height}")
        return picture

    return made


def plain_colours() -> list[Case]:
    """Squares of one colour: black to white, and the corners and middles of the cube."""
    levels = [*((v, v, v) for v in (0, 64, 128, 192, 255)), *itertools.product((40, 215), repeat=3)]
    sizes = (FLAT, FLAT, 3), (4 * FLAT, 4 * FLAT, 3)
    return [
        Case("-".join(map(str, level)), *(np.broadcast_to(np.array(level, np.uint8), size) for size in reversed(sizes)))
        for level in levels
    ]


def scorers(weights: Path) -> dict[str, Score]:
    """{column: score}. Raises: MetricError if a metric's weights are not there; ImportError without ffmpeg."""
    found, rules = catalog.find(weights), RULES["default"]
    own: dict[str, Score] = {
        "vmaf": VMAF().score,
        "psnr_rgb": lambda image, hr: psnr(image.astype(np.float32), hr.astype(np.float32)),
        "largest": lambda image, hr: float(np.abs(image.astype(int) - hr).max()),
        "of_mean": lambda image, hr: float(np.abs(image.mean((0, 1)) - hr.mean((0, 1))).max()),
    }
    wanted = dict.fromkeys(column for columns in COLUMNS.values() for column in columns if column not in own)
    if missing := [key for key in wanted if catalog.known(key).weights and key not in found]:
        raise catalog.MetricError("; ".join(f"{key} has no weights: {catalog.METRICS[key].get}" for key in missing))
    return own | {key: catalog.load(key, rules, found.get(key)).score for key in wanted}


def measure(row: Row, cases: Iterable[Case], names: Sequence[str], score: Mapping[str, Score], kept: Kept) -> None:
    """Make and score the row's pictures that are not known yet."""
    if all(kept.get(row, name) is not None for name in names):
        return
    make = row.open()
    for case in cases:
        if kept.get(row, case.name) is None:
            image = make(case)
            kept.add(row, case.name, {column: score[column](image, case.hr) for column in COLUMNS[row.table]})
    print(f"{row.table}: {row.method}", file=sys.stderr, flush=True)


def tables(done: Sequence[Row], names: Mapping[str, Sequence[str]], kept: Kept) -> tuple[str, str]:
    """(Markdown of the means, with the ratio to bicubic's where it has a meaning; CSV of every picture)."""
    text, lines = io.StringIO(), []
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "method", "picture", "measure", "score"])
    for table in COLUMNS:
        mine = [row for row in done if row.table == table]
        if not mine:
            continue
        columns = COLUMNS[table]
        heads = [TITLES.get(column) or catalog.METRICS[column].column for column in columns]
        lines += [f"| {table} | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(columns)}"]
        base: dict[str, float] = {}
        for row in mine:
            scores = {name: kept.get(row, name) or {} for name in names[table]}
            fold = max if table == PLAIN else _mean
            means = {column: fold([one[column] for one in scores.values()]) for column in columns}
            base = base or (means if row.method == "bicubic" else {})
            cells = [_cell(column, means[column], base.get(column)) for column in columns]
            lines.append(f"| {row.method} | {' | '.join(cells)} |")
            for name, one in scores.items():
                writer.writerows([table, row.method, name, column, f"{one[column]:.6g}"] for column in columns)
        lines.append("")
    return "\n".join(lines), text.getvalue()


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]  # NIQE of a flat picture
    return math.fsum(known) / len(known) if known else math.nan


def _cell(column: str, value: float, base: float | None) -> str:
    metric = catalog.METRICS.get(column)
    text = f"{value:.{metric.digits if metric else 2}f}"
    return f"{text} ({value / base:.3f})" if metric and metric.distance and base else text


@refusing
def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--photos", required=True, help="HR photos: folder, file or quoted glob")
    p.add_argument("--ckpt", action="append", default=[], metavar="NAME=DIR", help="whole models; may be repeated")
    p.add_argument("--pictures", action="append", default=[], metavar="NAME=DIR", help="a method's pictures (degraded)")
    p.add_argument("--weights", type=Path, default=Path("checkpoints"), help="of the measures (as of evaluate.py)")
    p.add_argument("--output", type=Path, required=True)
    args = p.parse_args(arguments)
    models, folders = parse_folders(args.ckpt, flag="--ckpt"), parse_folders(args.pictures, flag="--pictures")
    try:
        score = scorers(args.weights)
    except ImportError as error:
        raise UsageError(f"{error}: pip install imageio-ffmpeg") from None
    left_out = LeftOut()
    degraded = read_cases(args.photos, Protocol(), failed=left_out)
    if not len(degraded):
        raise UsageError(f"--photos {args.photos}: no picture could be used")
    clean = read_cases(args.photos, Protocol(degradation="bicubic"), failed=lambda *same: None)
    plain = plain_colours()
    places = {name: Path(directory) for name, directory in models.items()}
    done = list(rows(places, folders, args.photos, degraded.names))
    args.output.mkdir(parents=True, exist_ok=True)
    kept = Kept(args.output / "scores.jsonl")
    cases: dict[str, Iterable[Case]] = dict.fromkeys(COLUMNS, degraded) | {CLEAN: clean, PLAIN: plain}
    names = {table: [case.name for case in plain] if table == PLAIN else list(degraded.names) for table in COLUMNS}
    for row in done:
        measure(row, cases[row.table], names[row.table], score, kept)
    markdown, scores = tables(done, names, kept)
    protocol = f"{degraded.text} {RULES['default'].describe()}"
    text = f"{protocol} In brackets: ratio to bicubic's. Of plain colours the worst.\n\n{markdown}"
    write_whole(args.output / "pictures.md", [text.encode()])
    write_whole(args.output / "scores.csv", [scores.encode()])
    print(markdown)
    return left_out.exit_code


if __name__ == "__main__":
    sys.exit(main())
