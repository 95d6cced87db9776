"""Everything to be known of a new GPU or TPU, the most useful first, in as many seconds as there are.

    python -m benchmarks.accelerator --seconds 200 --output accelerator
    python -m benchmarks.accelerator --preset small --seconds 60      tries itself on a CPU

OUTPUT.json and OUTPUT.md are written again after every row; what did not fit into the time is marked "not run": a row
that has begun is left between two of its steps, so only a compilation can run over.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.inference import PRESETS, Bench, one_step
from tests import parity
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.data.pipeline import Samples
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.planning.abstract_programs import train_program
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.settings import with_settings
from vdiffsr_jax.training.speed import chip_of

ROOT = Path(__file__).parents[1]
GOLDEN = {"published": ("diffusion", "end_to_end", "vqgan_f4", "swin_unet"), "small": ("vqgan_f4",)}
BATCHES = {"published": (1, 8, 32), "small": (1, 2)}
Row = dict[str, Any]


def device() -> Row:
    """What this is."""
    chip = chip_of(jax.devices()[0].device_kind)
    found = f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, flax {flax.__version__}"
    return {"device": found, "peak TFLOP/s": chip.flops / 1e12 if chip else None}


def golden(folder: str) -> Row:
    """A folder of reference numbers, in float32."""
    lines = parity.compare(ROOT / "tests" / "golden" / folder)
    worst = max(lines, key=lambda line: line.excess)
    return {"arrays": len(lines), "failed": sum(not line.ok for line in lines), "worst": f"{worst.excess:.2g} allowed"}


def random_items(preset: str) -> dict[str, Params]:
    """Fresh parameters of the preset's model."""
    networks = assemble(PRESETS[preset]).networks
    return {name: network.init(jax.random.key(i)) for i, (name, network) in enumerate(networks.items())}


def rounding(preset: str) -> Row:
    """One step in bfloat16 against float32, both from the same random weights."""
    items = random_items(preset)
    exact, half = (
        np.asarray(one_step(Bench(1), PRESETS[preset], items, 1, jnp.dtype(d)), np.float32)
        for d in ("float32", "bfloat16")
    )
    return {"deviation / std": float(np.sqrt(np.mean((half - exact) ** 2)) / exact.std())}


def inference(preset: str, batch: int) -> Row:
    """One-step super-resolution in bfloat16 by stage, ms a tile."""
    bench = Bench(3)
    one_step(bench, PRESETS[preset], random_items(preset), batch, jnp.dtype("bfloat16"))
    ms, gflop = sum(t.ms for t in bench.timings), sum(t.gflop for t in bench.timings)
    row: Row = {t.name: round(t.ms / batch, 3) for t in bench.timings}
    row |= {"ms a tile": ms / batch} | _rate(gflop * 1e9, ms / 1e3)
    return row | {"peak MB of a stage": max(t.memory_mb for t in bench.timings)}


def training(preset: str) -> Row:
    """Steps of distill with made-up numbers in place of weights and pictures."""
    with tempfile.TemporaryDirectory() as folder:
        cfg, _ = with_assumed_weights(_distill(preset), Path(folder))
        started = time.perf_counter()
        program = train_program(cfg, jax.devices())
        compiled = program.lowered.compile()
        compile_s = time.perf_counter() - started
    state, *rest = jax.tree.map(_made_up, program.lowered.args_info[0], compiled.input_shardings[0])
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        state, metrics = compiled(state, *rest)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - started)
    memory = compiled.memory_analysis()
    assert memory is not None, "accelerators report their memory"
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    row = {"images/s": cfg.batch_size / min(seconds), "memory GiB": used / 2**30, "compile s": compile_s}
    return row | _rate(program.flops, min(seconds))


def feed(preset: str) -> Row:
    """Training samples a second of one processor core, made pictures."""
    cfg = _distill(preset).data
    samples = Samples(dataclasses.replace(cfg, sources=(), valid_sources=(), synthetic_fraction=1.0), seed=0)
    samples(0)
    started, count = time.process_time(), 0
    while time.process_time() - started < 2:
        count += 1
        samples(count)
    return {"samples/s a core": count / (time.process_time() - started)}


def rows(preset: str) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Name and measurement, in the order of their worth."""
    yield "device", device
    for folder in GOLDEN[preset]:
        yield f"parity {folder}, float32", lambda folder=folder: golden(folder)  # type: ignore[misc]
    yield "one step, bfloat16 against float32", lambda: rounding(preset)
    for batch in BATCHES[preset]:
        yield f"one step, batch {batch}", lambda batch=batch: inference(preset, batch)  # type: ignore[misc]
    yield "training step, distill", lambda: training(preset)
    yield "data feed", lambda: feed(preset)


class OutOfTimeError(Exception):
    """A row was still running when the time was over."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises: OutOfTimeError inside the block after so long, as soon as Python runs again: XLA is not broken off."""

    def over(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(preset: str, seconds: float, output: Path) -> list[Row]:
    """All rows that the time is enough for; a row that fails says why, and the next one is measured."""
    started, done = time.monotonic(), []
    for name, function in rows(preset):
        row: Row = {"row": name}
        left = started + seconds - time.monotonic()
        if left <= 0:
            row |= {"not run": f"{seconds:.0f} s were over"}
        else:
            print(f"{name} ...", flush=True)
            try:
                with limited(left):
                    row |= function()
            except OutOfTimeError:
                row |= {"not run": f"begun, but {seconds:.0f} s were over"}
            except (jax.errors.JaxRuntimeError, ValueError, OSError) as error:
                row |= {"failed": str(error).partition("\n")[0]}
        done.append(row)
        output.with_suffix(".json").write_text(json.dumps(done, indent=1) + "\n")
        output.with_suffix(".md").write_text(table(done))
    return done


def table(done: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| | |", "| --- | --- |"]
    for row in done:
        values = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "row")
        lines.append(f"| {row['row']} | {values} |")
    return "\n".join(lines) + "\n"


def _distill(preset: str) -> TrainConfig:
    devices = jax.device_count()
    if preset == "small":
        values = read_config_file(ROOT / "configs" / "smoke.py")["distill"]
        return parse_train(with_settings(values, [f"batch_size={devices}"]))
    values = read_config_file(ROOT / "configs" / "vdiffsr_x4.py")
    return parse_train(with_settings(values, [f"batch_size={4 * devices}", "mesh.data=0"]))


def _made_up(argument: Any, place: jax.sharding.Sharding) -> jax.Array:
    if jnp.issubdtype(argument.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    made: jax.Array = jax.device_put(jnp.full(argument.shape, 1e-3, argument.dtype), place)
    return made


def _rate(flops: float, seconds: float) -> Row:
    chip = chip_of(jax.devices()[0].device_kind)
    return {"TFLOP/s": flops / seconds / 1e12} | ({"share of peak": flops / seconds / chip.flops} if chip else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="published")
    parser.add_argument("--seconds", type=float, default=200, help="for all rows (default 200)")
    parser.add_argument("--output", type=Path, default=Path("accelerator"), help="without ending (default accelerator)")
    args = parser.parse_args()
    print(table(measure(args.preset, args.seconds, args.output)))


if __name__ == "__main__":
    main()
