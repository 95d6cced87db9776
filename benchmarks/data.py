"""How many training samples a processor core makes a second: a table of degradations and crop sizes.

    python -m benchmarks.data --input PHOTOS

One process, one thread, photos already in the cache ("warm"); "decode" is the time to decode one photo, which a sample
costs when its photo is not cached. Seconds are processor time, so other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

from benchmarks.command import refusing
from vdiffsr_jax.config.ranges import Count, number
from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.photos import Broken, DataError
from vdiffsr_jax.data.pipeline import Samples
from vdiffsr_jax.data.sources import Collection
from vdiffsr_jax.photos.photo import ImageError


def decode_seconds(path: str, count: int) -> tuple[float, float]:
    """Processor seconds and megapixels of a photo drawn by area, means over `count`."""
    photos = Collection((path,), Broken())
    area = photos.sizes.prod(axis=1)
    chosen = np.random.default_rng(0).choice(len(area), count, p=area / area.sum())
    start = time.process_time()
    for index in map(int, chosen):
        try:
            photos.pixels(index)
        except ImageError as error:
            raise DataError(f"{photos.names[index]} {error}") from None
    return (time.process_time() - start) / count, float(area[chosen].mean()) / 1e6


def samples_a_second(path: str, degradation: str, crop_size: int, count: int) -> float:
    """Samples per second of processor time, every photo cached before."""
    cfg = DataConfig(sources=(path,), degradation=degradation, crop_size=crop_size, cache_megabytes=8192)
    samples = Samples(cfg, seed=0)
    distinct = range(min(count, 40))
    for index in distinct:
        samples(index)
    start = time.process_time()
    for n in range(count):
        samples(n % len(distinct))
    return count / (time.process_time() - start)


@refusing
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="folder of photos, list file or shards")
    parser.add_argument("--count", type=number(Count), default=200, help="samples a row (default 200)")
    parser.add_argument(
        "--crop-size", type=number(Count), nargs="+", default=[128, 256], help="HR pixels (default 128 256)"
    )
    args = parser.parse_args()
    seconds, megapixels = decode_seconds(args.input, min(args.count, 40))
    print(f"decode: {1000 * seconds:.1f} ms a photo of {megapixels:.2f} megapixels; {os.cpu_count()} cores here")
    print("\n| degradation | crop | samples/s a core, warm |\n| --- | ---: | ---: |")
    for degradation in ("none", "bicubic", "mild", "realesrgan"):
        for size in args.crop_size:
            print(f"| {degradation} | {size} | {samples_a_second(args.input, degradation, size, args.count):.0f} |")


if __name__ == "__main__":
    sys.exit(main())
