"""Prove the metrics: score another method's pictures and compare with the scores it published.

python -m vdiffsr_jax.evaluation.selftest FOLDER

FOLDER holds HR/, NAME/ (that method's results, or a part of them) and NAME.csv (file,PSNR,SSIM,LPIPS,...), scored by
the rules of StableSR's benchmark.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.evaluation.pairs import read_plain
from vdiffsr_jax.evaluation.scores import Scorer
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.catalog import METRICS
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.sampling.files import UsageError, by_stem

# Published column -> (our metric, largest difference of one picture that is taken for the same metric).
TOLERANCES = {
    "PSNR": ("psnr", 1e-3),
    "SSIM": ("ssim", 1e-4),
    "LPIPS": ("lpips_alex", 1e-3),
    "DISTS": ("dists", 1e-3),
    "NIQE": ("niqe", 0.05),
    "MUSIQ": ("musiq", 0.05),
    "CLIPIQA": ("clip_iqa", 1e-3),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if all that could be tested agrees, 1 if something differs or nothing could be, 2 for wrong usage."""
    p = argparse.ArgumentParser(
        prog="python -m vdiffsr_jax.evaluation.selftest", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("folder", type=Path)
    p.add_argument("--weights", type=Path, default=Path("checkpoints"), help="of the metrics (default: checkpoints)")
    args = p.parse_args(arguments)
    try:
        return _run(args.folder, args.weights)
    except ExpectedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(folder: Path, weights: Path) -> int:
    methods = sorted(path for path in folder.glob("*.csv") if path.with_suffix("").is_dir())
    if not methods:
        raise UsageError(f"{folder} needs a NAME.csv of published scores beside a folder NAME of pictures")
    verdicts = [line for method in methods for line in compare(folder, method.stem, weights)]
    return 0 if verdicts and all(verdicts) else 1


def compare(folder: Path, method: str, weights: Path) -> Iterator[bool]:
    """Print a line for each published column; whether each that could be tested agrees."""
    published = _published(folder / f"{method}.csv")
    columns = [name for name in next(iter(published.values())) if name != "file"]
    found = catalog.find(weights)
    tested = {}
    for column in columns:
        key, _ = TOLERANCES.get(column, (None, 0))
        if key is None:
            print(f"{method} {column}: not tested, this tool has no such metric")
        elif METRICS[key].weights and key not in found:
            print(f"{method} {column}: not tested, no weights in {weights}; get them: {METRICS[key].get}")
        else:
            tested[column] = key
    scorer = Scorer.load(list(tested.values()), RULES["stablesr"], found)
    worst = _worst(folder, method, published, tested, scorer)
    for measure, (column, (difference, stem, count)) in zip(scorer.measures, worst.items(), strict=True):
        tolerance = TOLERANCES[column][1]
        verdict = "agrees" if difference <= tolerance else "DIFFERS"
        by = f"; weights of {measure.weights}" if measure.weights else ""
        print(f"{method} {column}: {verdict}, largest difference {difference:.2g} ({stem}) of {count} pictures, "
              f"{tolerance:g} allowed{by}")  # fmt: skip
        yield difference <= tolerance


def _worst(
    folder: Path, method: str, published: Mapping[str, Mapping[str, str]], tested: Mapping[str, str], scorer: Scorer
) -> dict[str, tuple[float, str, int]]:
    """{column: (largest difference, its picture, number of pictures)}."""
    truths, results = by_stem(str(folder / "HR")), by_stem(str(folder / method))
    stems = sorted(results.keys() & published.keys() & truths.keys())
    if not stems:
        raise UsageError(f"no picture of {folder / method} is both in {folder / 'HR'} and in {method}.csv")
    wanted = {stem: {column: _number(published[stem], column, method) for column in tested} for stem in stems}
    worst = dict.fromkeys(tested, (-1.0, "", len(stems)))
    for stem in stems:
        image, hr = read_plain(results[stem][0]), read_plain(truths[stem][0])
        if image.shape != hr.shape:
            raise UsageError(f"{stem} is of another size in {method} than in HR")
        scores = scorer(image, hr)
        for column, key in tested.items():
            difference = abs(scores[METRICS[key].column] - wanted[stem][column])
            if not difference <= worst[column][0]:  # NaN, a metric without a value, is the worst of all
                worst[column] = (math.inf if math.isnan(difference) else difference, stem, len(stems))
    return worst


def _published(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} is no table of scores: {error}") from None
    if not rows or "file" not in rows[0]:
        raise UsageError(f"{path} has no column `file`, or no rows")
    if wrong := [n for n, row in enumerate(rows, 2) if None in row or not row["file"]]:
        raise UsageError(f"{path}: row {wrong[0]} names no file, or has more cells than there are columns")
    return {Path(row["file"]).with_suffix("").as_posix(): row for row in rows}


def _number(row: Mapping[str, str], column: str, method: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):  # None where the row is short
        raise UsageError(f"{method}.csv: {column} of {row['file']} is {row[column]!r}, no number") from None


if __name__ == "__main__":
    sys.exit(main())
