"""Everything to be known of a new GPU or TPU, the most useful first, in as many seconds as there are.

    python -m benchmarks.accelerator --seconds 200 --output accelerator
    python -m benchmarks.accelerator --preset small --seconds 90      tries itself on a CPU

All programs are compiled at once, in threads, and a row is measured as soon as its own are there; what has been timed
beside compilations is timed again in the end, alone. OUTPUT.json and OUTPUT.md are written after every row.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import math
import os
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.inference import PRESETS, Ahead, Bench, Program, compiled, least, one_step
from benchmarks.rows import Row, Values, measure, table
from tests import parity
from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.data.pipeline import Samples
from vdiffsr_jax.models.assembled import Items, assemble
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.planning.abstract_programs import sampling_program, train_program
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.settings import with_settings
from vdiffsr_jax.training.speed import chip_of

ROOT = Path(__file__).parents[1]
GOLDEN = {"published": ("vqgan_f4", "swin_unet", "end_to_end"), "small": ("vqgan_f4",)}
LAST_GOLDEN = {"published": ("diffusion",), "small": ()}  # hundreds of small programs
BATCHES = {"published": (8, 32), "small": (2,)}
BOX_BATCHES = {"published": (32, 1, 128), "small": (1,)}
DTYPES = ("bfloat16", "float32")
Arguments = list[Any]
_TRACE = threading.Lock()  # tracing is Python's work: two at once are no faster, and the first comes later
_MAKE = threading.Lock()


def device() -> Values:
    """What this is."""
    chip = chip_of(jax.devices()[0].device_kind)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "flax", "optax", "orbax-checkpoint"))
    found = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {versions}, {os.cpu_count()} cores"
    return {"device": found, "peak TFLOP/s": chip.flops / 1e12 if chip else None}


def golden(folder: str) -> Values:
    """A folder of reference numbers, in float32."""
    lines = parity.compare(ROOT / "tests" / "golden" / folder)
    worst = max(lines, key=lambda line: line.excess)
    failed = sum(not line.ok for line in lines)
    row: Values = {"arrays": len(lines), "failed": failed, "worst": f"{worst.name} {worst.excess:.2g} of allowed"}
    if failed:
        print(*(line for line in lines if not line.ok), sep="\n", flush=True)
    return row


@functools.cache
def shapes(preset: str, dtype: str) -> tuple[VDiffSRConfig, Items]:
    """The preset's model as `sample.py` computes it, folded and rounded: its configuration, the parameters' shapes."""
    config = PRESETS[preset]

    def fold(items: Items) -> Items:
        nonlocal config
        items, config = fold_model(items, PRESETS[preset])
        return items

    items = jax.eval_shape(fold, {name: network.abstract for name, network in assemble(config).networks.items()})
    networks = assemble(config, dtype=jnp.dtype(dtype)).networks
    return config, {name: jax.eval_shape(network.as_computed, items[name]) for name, network in networks.items()}


@functools.cache
def _parameters(preset: str, dtype: str) -> Items:
    made: Items = numbers(shapes(preset, dtype)[1])
    return made


def parameters(preset: str, dtype: str) -> Items:
    """Random ones, made once, without a compiler: `init` would keep one busy for a minute."""
    with _MAKE:
        return _parameters(preset, dtype)


@functools.cache
def _stages(preset: str, dtype: str, batch: int, threads: ThreadPoolExecutor) -> Mapping[str, Future[Program]]:
    ahead = Ahead(threads)
    config, items = shapes(preset, dtype)
    one_step(ahead, config, dict(items), batch, jnp.dtype(dtype))
    return ahead.programs


def stages(preset: str, dtype: str, batch: int, threads: ThreadPoolExecutor) -> Mapping[str, Future[Program]]:
    """The stages of one step, compiled once, whoever asks."""
    with _TRACE:
        programs = _stages(preset, dtype, batch, threads)
    parameters(preset, dtype)
    concurrent.futures.wait(programs.values())
    return programs


def inference(preset: str, dtype: str, batch: int, programs: Mapping[str, Future[Program]]) -> Values:
    """One-step super-resolution by stage, ms a tile."""
    bench = Bench(3, burst=5, programs=programs)
    one_step(bench, shapes(preset, dtype)[0], dict(parameters(preset, dtype)), batch, jnp.dtype(dtype))
    ms, gflop = sum(t.ms for t in bench.timings), sum(t.gflop for t in bench.timings)
    row: Values = {t.name: round(t.ms / batch, 3) for t in bench.timings}
    row |= {"ms a tile": ms / batch} | _rate(gflop * 1e9, ms / 1e3)
    row |= {"peak MB of a stage": max(t.memory_mb for t in bench.timings)}
    return row | {"compile s of all": sum(t.compile_s for t in bench.timings)}


def rounding(preset: str, programs: Mapping[str, Mapping[str, Future[Program]]]) -> Values:
    """One step in bfloat16 against float32, both from the same random weights."""
    half, exact = (
        np.asarray(
            one_step(
                Bench(1, programs=programs[d]), shapes(preset, d)[0], dict(parameters(preset, d)), 1, jnp.dtype(d)
            ),
            np.float32,
        )
        for d in DTYPES
    )
    return {"deviation / std": float(np.sqrt(np.mean((half - exact) ** 2)) / exact.std())}


def box(dtype: str, batch: int) -> tuple[Program, Arguments]:
    """The program of `sample.py` for the small model that is bundled, its parameters random."""
    with _TRACE:
        cfg = parse_train(read_config_file(ROOT / "configs" / "box.py")["distill"]).model
        assert isinstance(cfg, VDiffSRConfig)
        traced = sampling_program(cfg, jax.devices()[0], batch=batch, dtype=dtype)
    program = compiled(traced.lowered, traced.flops)
    return program, list(numbers(traced.lowered.args_info[0], program.run.input_shardings[0]))


def small_model(batch: int, prepared: tuple[Program, Arguments]) -> Values:
    """Tiles of 64x64 a second."""
    program, arguments = prepared
    call = functools.partial(program.run, *arguments)
    jax.block_until_ready(call())
    seconds = least(call, 3, 5)
    row = {"ms a tile": seconds / batch * 1e3, "LR megapixels/s": batch * 64 * 64 / seconds / 1e6}
    return row | _rate(program.flops, seconds) | {"compile s": program.compile_s}


def distill(preset: str) -> tuple[Program, Arguments]:
    """The step of distill with made-up numbers in place of weights and pictures."""
    with _TRACE, tempfile.TemporaryDirectory() as folder:
        cfg, _ = with_assumed_weights(_distill(preset), Path(folder))
        traced = train_program(cfg, jax.devices())
    program = compiled(traced.lowered, traced.flops)
    return program, list(numbers(traced.lowered.args_info[0], program.run.input_shardings[0]))


def training(preset: str, prepared: tuple[Program, Arguments]) -> Values:
    """Steps of distill."""
    program, arguments = prepared
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        arguments[0], metrics = program.run(*arguments)  # the state that was passed is no more
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - started)
    memory = program.run.memory_analysis()
    assert memory is not None, "accelerators report their memory"
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    row = {"images/s": _distill(preset).batch_size / min(seconds), "memory GiB": used / 2**30}
    return row | _rate(program.flops, min(seconds)) | {"compile s": program.compile_s}


def feed(preset: str) -> Values:
    """Training samples a second of one processor core, made pictures."""
    cfg = _distill(preset).data
    samples = Samples(dataclasses.replace(cfg, sources=(), valid_sources=(), synthetic_fraction=1.0), seed=0)
    samples(0)
    started, count = time.thread_time(), 0
    while time.thread_time() - started < 2:
        count += 1
        samples(count)
    return {"samples/s a core": count / (time.thread_time() - started)}


def rows(preset: str, threads: ThreadPoolExecutor) -> Iterator[Row]:
    """What there is to measure, in the order in which it is begun."""

    def step(dtype: str, batch: int) -> Row:
        return Row(
            f"one step, {dtype}, batch {batch}",
            functools.partial(stages, preset, dtype, batch, threads),
            functools.partial(inference, preset, dtype, batch),
        )

    yield Row("device", device, timed=False)
    yield Row("data feed", functools.partial(feed, preset), timed=False)
    for folder in GOLDEN[preset]:
        yield Row(f"parity {folder}, float32", functools.partial(golden, folder), timed=False)
    yield from (step(dtype, 1) for dtype in DTYPES)
    yield Row(
        "one step, bfloat16 against float32",
        lambda: {dtype: stages(preset, dtype, 1, threads) for dtype in DTYPES},
        functools.partial(rounding, preset),
        timed=False,
    )
    yield Row("training step, distill", functools.partial(distill, preset), functools.partial(training, preset))
    yield from (step("bfloat16", batch) for batch in BATCHES[preset])
    for folder in LAST_GOLDEN[preset]:
        yield Row(f"parity {folder}, float32", functools.partial(golden, folder), timed=False)
    for batch in BOX_BATCHES[preset]:
        for dtype in DTYPES:
            name = f"model in the box, {dtype}, batch {batch}"
            yield Row(name, functools.partial(box, dtype, batch), functools.partial(small_model, batch))


def _distill(preset: str) -> TrainConfig:
    devices = jax.device_count()
    if preset == "small":
        values = read_config_file(ROOT / "configs" / "smoke.py")["distill"]
        return parse_train(with_settings(values, [f"batch_size={devices}"]))
    values = read_config_file(ROOT / "configs" / "vdiffsr_x4.py")
    return parse_train(with_settings(values, [f"batch_size={4 * devices}", "mesh.data=0"]))


def numbers(tree: Any, places: Any = None) -> Any:
    """Arrays of these shapes, from the processor's own generator: kernels that keep a signal's size."""

    def make(path: Any, leaf: Any, place: jax.sharding.Sharding | None = None) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        name, shape = jax.tree_util.keystr(path), leaf.shape
        value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
        value *= math.prod(shape[:-1]) ** -0.5 if len(shape) > 1 else 0.1
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            value = np.zeros(shape)
        elif "opt_state" in name:
            value = np.abs(value)
        elif len(shape) == 1 and "scale" in name:
            value += 1
        made: jax.Array = jax.device_put(value.astype(leaf.dtype), place)
        return made

    rest = () if places is None else (places,)
    return jax.tree_util.tree_map_with_path(make, tree, *rest)


def _rate(flops: float, seconds: float) -> Values:
    chip = chip_of(jax.devices()[0].device_kind)
    return {"TFLOP/s": flops / seconds / 1e12} | ({"share of peak": flops / seconds / chip.flops} if chip else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="published")
    parser.add_argument("--seconds", type=float, default=200, help="for all rows (default 200)")
    parser.add_argument("--output", type=Path, default=Path("accelerator"), help="without ending (default accelerator)")
    args = parser.parse_args()
    threads = ThreadPoolExecutor(os.cpu_count())
    print(table(measure(rows(args.preset, threads), args.seconds, args.output)), flush=True)
    sys.stderr.flush()
    os._exit(0)  # what still compiles is not waited for


if __name__ == "__main__":
    main()
