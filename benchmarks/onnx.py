"""onnxruntime beside XLA on this CPU: one tile, one step, weights of a checkpoint.

    python -m vdiffsr_jax.distribution export vdiffsr_jax/assets/box --format onnx --output exports/box
    python -m benchmarks.onnx --ckpt vdiffsr_jax/assets/box --onnx exports/box/model.onnx

The two take turns; the least of --repeats runs counts. Batch 1, which is what both do best on a CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import onnxruntime

from benchmarks.command import refusing
from vdiffsr_jax.config.ranges import Count, number
from vdiffsr_jax.distribution import export


def report(checkpoint: Path, file: Path, repeats: int) -> str:
    """A line for each runtime and the largest deviation."""
    exported = export.Exported(checkpoint)
    lr, noise = export.example(exported, 1)
    program = jax.jit(exported.run).lower(exported.weights, lr, noise).compile()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    run: dict[str, Callable[[], np.ndarray]] = {
        f"jax {jax.__version__}": lambda: np.asarray(program(exported.weights, lr, noise)),
        f"onnxruntime {onnxruntime.__version__}": lambda: session.run(None, {"lr": lr, "noise": noise})[0],
    }
    results = [call() for call in run.values()]  # and warmed up
    times = {name: float("inf") for name in run}
    for _ in range(repeats):
        for name, call in run.items():
            times[name] = min(times[name], _timed(call))
    lines = [f"{name:<24}{seconds * 1e3:>9.1f} ms a tile" for name, seconds in times.items()]
    return "\n".join([*lines, f"largest deviation {np.abs(results[0] - results[1]).max():.2g} in [-1, 1]"])


def _timed(call: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@refusing
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--repeats", type=number(Count), default=10)
    args = parser.parse_args()
    if not args.onnx.is_file():
        parser.error(f"--onnx {args.onnx}: no such file")
    print(report(args.ckpt, args.onnx, args.repeats))


if __name__ == "__main__":
    sys.exit(main())
