"""Everything to be known of a new GPU or TPU, the most useful first, in as many seconds as there are.

    python -m benchmarks.accelerator --seconds 570 --output accelerator
    python -m benchmarks.accelerator --only "training.*"              some rows
    python -m benchmarks.accelerator --preset small                   tries itself on a CPU

One row after the other: nothing runs or compiles beside what is measured. OUTPUT.json and OUTPUT.md are written after
every row.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import os
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command import refusing
from benchmarks.inference import PRESETS, Ahead, Bench, Program, compiled, least, one_step
from benchmarks.rows import Row, Values, measure, table
from tests import parity
from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.config.ranges import Positive, number
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.data.pipeline import Samples
from vdiffsr_jax.models.assembled import Items, assemble
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.ops import attention
from vdiffsr_jax.planning import abstract_programs
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.training.abstract import trace_step
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.flop_count import count_flops
from vdiffsr_jax.training.settings import with_settings
from vdiffsr_jax.training.speed import chip_of

ROOT = Path(__file__).parents[1]


def rows(preset: str) -> list[Row]:
    """What there is to measure, in the order of worth: a GPU compiles half a minute or more for most of it."""

    def step(dtype: str, batch: int) -> Row:
        return Row(f"one step, {dtype}, batch {batch}", functools.partial(inference, preset, dtype, batch))

    def small(dtype: str, batch: int) -> Row:
        return Row(f"model in the box, {dtype}, batch {batch}", functools.partial(box, dtype, batch))

    def reference(folder: str) -> Row:
        return Row(f"parity {folder}, float32", functools.partial(golden, folder))

    def half(folder: str) -> Row:
        return Row(f"{folder} in bfloat16", functools.partial(deviation, folder))

    first = Row("device", device)
    train = [Row("training step, distill", functools.partial(training, preset))]
    train += [Row("data feed", functools.partial(feed, preset))]
    if preset == "small":
        exact = [Row("one step, bfloat16 against float32", functools.partial(rounding, preset, 2)), step("float32", 2)]
        return [
            first,
            small("bfloat16", 1),
            step("bfloat16", 2),
            reference("vqgan_f4"),
            half("swin_unet"),
            *exact,
            *train,
        ]
    return [
        first,
        *(small("bfloat16", batch) for batch in (32, 1)),
        step("bfloat16", 8),
        *map(reference, ("vqgan_f4", "swin_unet", "end_to_end", "var_transformer_b", "vqvae_multiscale")),
        Row("one step, bfloat16 against float32", functools.partial(rounding, preset, 8)),
        step("float32", 8),
        *(small("float32", batch) for batch in (32, 1)),
        *train,
        *(step("bfloat16", batch) for batch in (1, 32)),
        small("bfloat16", 128),
        *map(half, ("vqgan_f4", "swin_unet", "var_transformer_b", "vqvae_multiscale")),
        reference("diffusion"),  # hundreds of small programs
    ]


def device() -> Values:
    """What this is."""
    chip = chip_of(jax.devices()[0].device_kind)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "flax", "optax", "orbax-checkpoint"))
    found = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {versions}, {os.cpu_count()} cores"
    return {"device": found, "peak TFLOP/s": chip.flops / 1e12 if chip else None}


def deviation(folder: str) -> Values:
    """A network in bfloat16 from its reference numbers in float32: largest error over their std, codes that differ."""
    lines = parity.compare(ROOT / "tests" / "golden" / folder, dtype=jnp.bfloat16)
    codes = {line.name: line.deviation for line in lines if "/" in line.deviation}
    errors = {line.name: float(line.deviation) for line in lines if line.name not in codes}
    worst = max(errors, key=errors.__getitem__)
    row: Values = {"arrays": len(errors), "median": float(np.median(list(errors.values())))}
    return row | {"worst": f"{worst} {errors[worst]:.2g}"} | codes


def golden(folder: str) -> Values:
    """A folder of reference numbers, in float32."""
    lines = parity.compare(ROOT / "tests" / "golden" / folder)
    worst = max(lines, key=lambda line: line.excess)
    failed = [line for line in lines if not line.ok]
    print(*failed, sep="\n", end="\n" if failed else "", flush=True)
    return {"arrays": len(lines), "failed": len(failed), "worst": f"{worst.name} {worst.excess:.2g} of allowed"}


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
def parameters(preset: str, dtype: str) -> dict[str, Any]:
    """Random ones, made without a compiler: `init` would keep one busy for a minute."""
    return dict(numbers(shapes(preset, dtype)[1]))


@functools.cache
def stages(preset: str, dtype: str, batch: int) -> Mapping[str, Program]:
    """The stages of one step, compiled beside each other."""
    with ThreadPoolExecutor() as threads:
        ahead = Ahead(threads)
        config, items = shapes(preset, dtype)
        one_step(ahead, config, dict(items), batch, jnp.dtype(dtype))
        return {name: program.result() for name, program in ahead.programs.items()}


def inference(preset: str, dtype: str, batch: int) -> Values:
    """One-step super-resolution, ms a tile, of each stage with its rate, and of all."""
    bench = Bench(3, burst=5, programs=stages(preset, dtype, batch))
    one_step(bench, shapes(preset, dtype)[0], parameters(preset, dtype), batch, jnp.dtype(dtype))
    ms, gflop = sum(t.ms for t in bench.timings), sum(t.gflop for t in bench.timings)
    rate_of = functools.partial(_rate, dtype)
    row: Values = {}
    for t in bench.timings:
        rate = ", ".join(f"{name} {value:.3g}" for name, value in rate_of(t.gflop * 1e9, t.ms / 1e3).items())
        row[t.name] = f"{t.ms / batch:.3f} ({rate})"
    row |= {"ms a tile": ms / batch} | rate_of(gflop * 1e9, ms / 1e3)
    row |= {"peak MB of a stage": max(t.memory_mb for t in bench.timings)}
    return row | {"compile s of the slowest": max(t.compile_s for t in bench.timings)}


def rounding(preset: str, batch: int) -> Values:
    """One step in bfloat16 against float32, both from the same random weights."""

    def picture(dtype: str) -> np.ndarray:
        bench = Bench(1, programs=stages(preset, dtype, batch))
        hr = one_step(bench, shapes(preset, dtype)[0], parameters(preset, dtype), batch, jnp.dtype(dtype))
        return np.asarray(hr, np.float32)

    half, exact = picture("bfloat16"), picture("float32")
    return {"deviation / std": float(np.sqrt(np.mean((half - exact) ** 2)) / exact.std())}


def box(dtype: str, batch: int) -> Values:
    """The program of `sample.py` for the small model that is bundled, its parameters random."""
    cfg = parse_train(read_config_file(ROOT / "configs" / "box.py")["distill"]).model
    assert isinstance(cfg, VDiffSRConfig)
    program, arguments = _ready(abstract_programs.sampling_program(cfg, jax.devices()[0], batch=batch, dtype=dtype))
    call = functools.partial(program.run, *arguments)
    jax.block_until_ready(call())
    seconds = least(call, 3, 5)
    row = {"ms a tile": seconds / batch * 1e3, "LR megapixels/s": batch * cfg.tile_size**2 / seconds / 1e6}
    return row | _rate(dtype, program.flops, seconds) | {"compile s": program.compile_s}


def training(preset: str) -> Values:
    """Steps of distill with made-up numbers in place of weights and pictures."""
    with tempfile.TemporaryDirectory() as folder:
        cfg, _ = with_assumed_weights(_distill(preset), Path(folder))
        program, arguments = _ready(abstract_programs.train_program(cfg, jax.devices()))
        with attention.counting():
            once = trace_step(dataclasses.replace(cfg, remat="none"))
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        arguments[0], metrics = program.run(*arguments)  # the state that was passed is no more
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - started)
    memory = program.run.memory_analysis()
    assert memory is not None, "accelerators report their memory"
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    row = {"images/s": cfg.batch_size / min(seconds), "memory GiB": used / 2**30}
    rate = _rate(cfg.dtype, program.flops, min(seconds))
    if "share of peak" in rate:  # by all that is done, and by what the model needs
        rate["HFU"] = rate.pop("share of peak")
        needed = count_flops(once.traced.jaxpr) / jax.device_count()
        rate["MFU"] = _rate(cfg.dtype, needed, min(seconds))["share of peak"]
    return row | rate | {"compile s": program.compile_s}


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


def _distill(preset: str) -> TrainConfig:
    devices = jax.device_count()
    if preset == "small":
        values = read_config_file(ROOT / "configs" / "smoke.py")["distill"]
        return parse_train(with_settings(values, [f"batch_size={devices}"]))
    values = read_config_file(ROOT / "configs" / "vdiffsr_x4.py")
    return parse_train(with_settings(values, [f"batch_size={4 * devices}", "mesh.data=0"]))


def _ready(abstract: abstract_programs.Program) -> tuple[Program, list[Any]]:
    """The program, compiled, and arguments for it."""
    program = compiled(abstract.lowered, abstract.flops)
    return program, list(numbers(abstract.lowered.args_info[0], program.run.input_shardings[0]))


def numbers(tree: Any, places: Any = None) -> Any:
    """Arrays of these shapes, from the processor's own generator: kernels that keep a signal's size."""

    def make(path: Any, leaf: Any, place: jax.sharding.Sharding | None = None) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        made: jax.Array = jax.device_put(_drawn(jax.tree_util.keystr(path), leaf.shape, leaf.dtype), place)
        return made

    rest = () if places is None else (places,)
    return jax.tree_util.tree_map_with_path(make, tree, *rest)


def _drawn(name: str, shape: tuple[int, ...], dtype: jnp.dtype) -> np.ndarray:
    if jnp.issubdtype(dtype, jnp.integer):
        return np.zeros(shape, dtype)
    value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    value *= math.prod(shape[:-1]) ** -0.5 if len(shape) > 1 else 0.1
    if "opt_state" in name:
        value = np.abs(value)
    elif len(shape) == 1 and "scale" in name:
        value += 1
    return value.astype(dtype)


def _rate(dtype: str, flops: float, seconds: float) -> Values:
    """The peak is that of bfloat16: float32 has another one."""
    chip = chip_of(jax.devices()[0].device_kind) if dtype == "bfloat16" else None
    return {"TFLOP/s": flops / seconds / 1e12} | ({"share of peak": flops / seconds / chip.flops} if chip else {})


@refusing
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="published")
    parser.add_argument("--seconds", type=number(Positive), default=570, help="for all rows (default 570)")
    parser.add_argument("--only", metavar="REGEX", default=".*", help="only rows whose whole name matches")
    parser.add_argument("--output", type=Path, default=Path("accelerator"), help="without ending (default accelerator)")
    args = parser.parse_args()
    try:
        only = re.compile(args.only)
    except re.error as error:
        parser.error(f"argument --only: {error}")
    asked = [row for row in rows(args.preset) if only.fullmatch(row.name)]
    print(table(measure(asked, args.seconds, args.output)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
