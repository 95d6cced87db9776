"""A look at the data: LR (enlarged by repeating pixels) beside HR, many pairs in one PNG.

python -m vdiffsr_jax.data.contact_sheet --input PHOTOS --degradation realesrgan --output sheet.png
python -m vdiffsr_jax.data.contact_sheet --config configs/X.py --output sheet.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image

from vdiffsr_jax.config.ranges import Count, Seed, Whole, number
from vdiffsr_jax.data.cli import add_data_flags, data_config, run
from vdiffsr_jax.data.pipeline import SPLITS, Samples
from vdiffsr_jax.photos.sheet import draw, png, repeat
from vdiffsr_jax.photos.write import write_whole


def sheet(pairs: Sequence[tuple[np.ndarray, np.ndarray | None]], columns: int) -> Image.Image:
    """Pairs HR (s, s, 3), LR (s / k, s / k, 3) or None, uint8, as rows of `columns` times LR | HR."""
    cells = [_cells(hr, lr) for hr, lr in pairs]
    return draw([[cell for pair in cells[n : n + columns] for cell in pair] for n in range(0, len(cells), columns)])


def _cells(hr: np.ndarray, lr: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    low = [] if lr is None else [("LR", repeat(lr, hr.shape[0] // lr.shape[0]))]
    return [*low, ("HR", hr)]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for wrong usage or data."""
    parser = argparse.ArgumentParser(description="Write LR | HR pairs as a PNG.")
    add_data_flags(parser)
    parser.add_argument("--output", required=True, type=epath.Path, help="the PNG to write")
    parser.add_argument("--split", choices=SPLITS, default="train", help="(default train)")
    parser.add_argument("--count", type=number(Count), default=24, help="pairs (default 24)")
    parser.add_argument("--columns", type=number(Count), default=4, help="pairs in a row (default 4)")
    parser.add_argument("--first", type=number(Whole), default=0, help="number of the first sample (default 0)")
    parser.add_argument("--seed", type=number(Seed), default=0, help="as in training (default 0)")
    parser.add_argument("--verbose", action="store_true", help="show the trace of an error")
    args = parser.parse_args(argv)

    def work() -> int:
        samples = Samples(data_config(args), seed=args.seed, split=args.split)
        pairs = [samples.images(args.first + n) for n in range(args.count)]
        write_whole(args.output, [png(sheet(pairs, args.columns))])
        left_out = f"; {samples.broken.count} broken, {samples.too_small} too small" if samples.broken.count else ""
        print(f"{args.count} pairs in {args.output}{left_out}")
        return 0

    return run(work, verbose=args.verbose)


if __name__ == "__main__":
    sys.exit(main())
