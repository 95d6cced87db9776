"""Where the time of one-step super-resolution goes: a table of stages.

    python -m benchmarks.inference --preset published            one 64x64 tile -> 256x256, random weights
    python -m benchmarks.inference --ckpt DIR --batch 4          a checkpoint's own sizes and weights
    python -m benchmarks.inference --photo 8                     and a photo of so many tiles, as sample.py computes it

Every stage is compiled ahead of time and run alone on the device; `ms` is the least of --repeats runs. GFLOP are the
compiler's own count, `memory` the stage's arguments, results and temporaries, the last line the process's peak.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command import refusing
from vdiffsr_jax.config import PriorConfig, SwinUNetConfig, VARConfig, VARTokenizerConfig, VDiffSRConfig, VQGANConfig
from vdiffsr_jax.config.ranges import Count, Whole, number
from vdiffsr_jax.diffusion import sampler, schedule
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.models.assembled import Items, assemble
from vdiffsr_jax.models.build import Params, cast, flatten
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.models.pyramid_var import PyramidVAR
from vdiffsr_jax.sampling.upscaler import Upscaler
from vdiffsr_jax.training.flop_count import count_flops
from vdiffsr_jax.weights import checkpoint

TILE_32 = VDiffSRConfig(
    first_stage=VQGANConfig(ch=32, ch_mult=(1, 2, 2), num_res_blocks=1, n_embed=4096),
    denoiser=SwinUNetConfig(
        image_size=32, model_channels=64, channel_mult=(1, 2, 2), num_res_blocks=(1, 1, 1),
        attention_resolutions=(32, 16, 8), swin_embed_dim=96,
    ),
    prior=PriorConfig(
        tokenizer=VARTokenizerConfig(
            vocab_size=1024, z_channels=16, ch=32, ch_mult=(1, 1, 2, 2, 4), num_res_blocks=1,
            patch_nums=(1, 2, 3, 4, 6, 8),
        ),
        var=VARConfig(
            depth=8, width=256, num_heads=8, num_classes=1, vocab_size=1024, code_dim=16, patch_nums=(1, 2, 3, 4, 6, 8)
        ),
    ),
)  # fmt: skip
PRESETS = {"published": VDiffSRConfig(), "small": TILE_32}


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one stage took."""

    name: str
    ms: float
    gflop: float
    memory_mb: float
    compile_s: float


class Program(NamedTuple):
    """`compile_s`: what its compilation took."""

    run: jax.stages.Compiled
    flops: float
    compile_s: float


def compiled(lowered: jax.stages.Lowered, flops: float | None = None) -> Program:
    """Compile, with the clock running. FLOPs: the compiler's count by default; a GPU's leaves out what libraries do."""
    start = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - start
    return Program(program, (program.cost_analysis() or {}).get("flops", 0.0) if flops is None else flops, seconds)


class Ahead:
    """Has every stage compiled in a thread and runs none; a stage's result is its shape."""

    def __init__(self, threads: ThreadPoolExecutor):
        self.threads = threads
        self.programs: dict[str, Future[Program]] = {}

    def run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """As `Bench.run`; the arguments may be shapes."""
        traced = jax.jit(function).trace(*arguments)
        lowered = traced.lower()
        self.programs[name] = self.threads.submit(compiled, lowered, count_flops(traced.jaxpr))
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), lowered.out_info)


class Bench:
    """Compiles and times one stage after the other; a stage's result is the next one's argument.

    A run is `burst` calls, the next begun before the last has ended. `programs`: what was compiled ahead.
    """

    def __init__(self, repeats: int, *, burst: int = 1, programs: Mapping[str, Program] | None = None):
        self.repeats, self.burst, self.programs = repeats, burst, programs
        self.timings: list[Timing] = []

    def run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Compile, run once to warm up, then take the least of `repeats` runs; returns the stage's result."""
        program = self.programs[name] if self.programs else compiled(jax.jit(function).lower(*arguments))
        result = jax.block_until_ready(program.run(*arguments))
        seconds = least(lambda: program.run(*arguments), self.repeats, self.burst)
        memory = program.run.memory_analysis()
        assert memory is not None, "every backend that is measured here reports its memory"
        used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        self.timings.append(Timing(name, seconds * 1e3, program.flops / 1e9, used / 2**20, program.compile_s))
        return result

    def table(self) -> list[str]:
        """One line a stage, and the sum."""
        lines = [f"{'stage':<20}{'ms':>9}{'GFLOP':>9}{'GFLOP/s':>9}{'memory MB':>11}{'compile s':>11}"]
        for t in self.timings:
            lines.append(
                f"{t.name:<20}{t.ms:>9.1f}{t.gflop:>9.1f}{t.gflop / t.ms * 1e3:>9.0f}{t.memory_mb:>11.0f}"
                f"{t.compile_s:>11.1f}"
            )
        ms, gflop, compile_s = (sum(getattr(t, f) for t in self.timings) for f in ("ms", "gflop", "compile_s"))
        lines.append(f"{'sum':<20}{ms:>9.1f}{gflop:>9.1f}{gflop / ms * 1e3:>9.0f}{'':>11}{compile_s:>11.1f}")
        return lines


def least(call: Callable[[], Any], repeats: int, burst: int) -> float:
    """Seconds of a call: the least of some runs of `burst` calls each."""
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(burst):
            result = call()
        jax.block_until_ready(result)
        runs.append((time.perf_counter() - start) / burst)
    return min(runs)


def one_step(
    bench: Bench | Ahead, config: VDiffSRConfig, items: dict[str, Params], batch: int, dtype: jnp.dtype
) -> jax.Array:
    """One step of super-resolution of random tiles, stage by stage; returns the HR tiles."""
    tile, rng = config.tile_size, np.random.default_rng(1)
    lr = jnp.asarray(rng.uniform(-1, 1, (batch, tile, tile, 3)), jnp.float32)
    noise = jnp.asarray(rng.standard_normal((batch, tile, tile, config.first_stage.embed_dim), np.float32))
    items, config = fidelity.at(*fold_model(items, config))
    model = assemble(config, dtype=dtype)
    steps = schedule.make(config.schedule)

    def denoise(items: Items, z_y: jax.Array, lr: jax.Array, prior: Any) -> jax.Array:
        return sampler.sample_one_step(lambda x, t: model.denoise(items, x, t, lr, prior), steps, z_y, noise)

    window = bench.run("bicubic x4", model.enlarge, lr)
    z_y = bench.run("VQ encode", model.encode, _only(items, "first_stage"), window)
    prior = None
    if config.prior is not None:
        pvar = model.networks["pvar"]
        tokens = bench.run("tokenizer", pvar.method(PyramidVAR.tokens), items["pvar"], window)
        pyramid = bench.run("prior", pvar.method(PyramidVAR.from_tokens), items["pvar"], tokens)
        prior = bench.run("prior keys, values", model.read_prior, _only(items, "denoiser"), pyramid)
    z_0 = bench.run("UNet, one step", denoise, _only(items, "denoiser"), z_y, lr, prior)
    hr: jax.Array = bench.run("VQ decode", model.decode, _only(items, "first_stage"), z_0)
    return hr


def _only(items: Items, name: str) -> Items:
    """One network's parameters: a stage is timed with no more arguments than it reads."""
    return {name: items[name]}


def photo_ms(config: VDiffSRConfig, items: dict[str, Params], tiles: int, dtype: jnp.dtype) -> float:
    """Milliseconds a tile of a photo of `tiles` in a row, blending included, after one that compiles."""
    upscaler = Upscaler(config, items, dtype=dtype.name)
    tile = upscaler.tile
    photo = np.random.default_rng(2).integers(0, 256, (tile, tiles * tile, 3), np.uint8)
    upscaler(photo[:, :tile])
    start = time.perf_counter()
    upscaler(photo, overlap=0)
    return (time.perf_counter() - start) / tiles * 1e3


def report(
    config: VDiffSRConfig, items: dict[str, Params], batch: int, dtype: jnp.dtype, repeats: int, photo: int = 0
) -> str:
    """What ran where, the table, and the process's peak."""
    bench = Bench(repeats)
    one_step(bench, config, items, batch, dtype)
    in_photo = [f"in a photo of {photo} tiles: {photo_ms(config, items, photo, dtype):.0f} ms a tile"] if photo else []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = [
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jnp.dtype(dtype).name}, batch {batch}, "
        f"tile {config.tile_size} -> {config.tile_size * config.scale}",
        *(f"{name}: {sum(x.size for x in flatten(p).values()) / 1e6:.1f} M parameters" for name, p in items.items()),
        *bench.table(),
        *in_photo,
        f"peak resident memory of the process: {peak:.0f} MB",
    ]
    return "\n".join(lines)


@refusing
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--preset", choices=sorted(PRESETS), default="published")
    source.add_argument("--ckpt", help="directory of a vdiffsr checkpoint")
    parser.add_argument("--no-prior", action="store_true", help="leave out VAR, CoGU and CSPA of a preset: plain SinSR")
    parser.add_argument("--batch", type=number(Count), default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=number(Count), default=3)
    parser.add_argument(
        "--photo", type=number(Whole), default=0, metavar="TILES", help="time a photo of so many tiles, too"
    )
    args = parser.parse_args()
    if args.ckpt and args.no_prior:
        parser.error("--no-prior is for a --preset; --ckpt takes a model as it is")
    dtype = jnp.dtype(args.dtype)
    if args.ckpt:
        model = checkpoint.load_model(args.ckpt)
        if model.kind != "vdiffsr":
            parser.error(f"--ckpt {args.ckpt} holds a {model.kind} network, not a whole model")
        config, items = model.config, model.items
    else:
        config = PRESETS[args.preset]
        if args.no_prior:
            config = dataclasses.replace(config, prior=None)
        networks = assemble(config).networks
        items = {name: net.init(jax.random.key(i)) for i, (name, net) in enumerate(networks.items())}
    if dtype != jnp.float32:
        items = {name: cast(params, dtype) for name, params in items.items()}
    print(report(config, items, args.batch, dtype, args.repeats, args.photo))


if __name__ == "__main__":
    sys.exit(main())
