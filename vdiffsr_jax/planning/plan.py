"""What a run will need before a chip is rented: its real steps, compiled ahead of time for a named TPU topology.

    python -m vdiffsr_jax.training.plan --config configs/vdiffsr_x4.py --topology v5e:4x4

needs no accelerator (pip install "vdiffsr-jax[tpu]" brings the TPU compiler). Without --topology the report is about
the devices of this machine. Weights named in init_from need not exist.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdiffsr_jax.config import ConfigError, ExpectedError, VDiffSRConfig, first_line
from vdiffsr_jax.config.ranges import Count, number
from vdiffsr_jax.config_file import read_config_file

if TYPE_CHECKING:
    import jax

    from vdiffsr_jax.planning.abstract_programs import Program
    from vdiffsr_jax.training.config import TrainConfig

FITS, DOES_NOT_FIT, USAGE = 0, 1, 2
# The TPU library asks for these before it compiles; its answer depends on the topology alone.
_NO_TPU_HOST = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
}
_MFU = 0.4  # what well-shaped convolution networks reach; the compiler's own estimate stands beside it


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m vdiffsr_jax.training.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"exit codes: {FITS} every step fits, {DOES_NOT_FIT} one does not, {USAGE} wrong usage",
    )
    p.add_argument("--config", required=True, type=Path, help="as for train.py")
    p.add_argument("--topology", help="TPU generation and shape, such as v5e:4x4, v5p:4x4x4; default: devices here")
    p.add_argument(
        "--slices", type=number(Count), default=1, help="how many of that topology, joined by a data-centre network"
    )
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="as for train.py")
    p.add_argument("--step", default="both", choices=("train", "sample", "both"), help="which step (default: both)")
    p.add_argument(
        "--sample_batch", type=number(Count), default=8, help="tiles a chip in the sampling step (default: 8)"
    )
    p.add_argument("--sample_dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of its computation")
    p.add_argument("--optimization", default="O1", choices=("O0", "O1", "O2", "O3"),
                   help="the compiler's effort for a --topology (default: O1; leaving it to the compiler takes "
                   "four times as long and finds about the same memory)")  # fmt: skip
    p.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. What is no refusal of ours leaves with its trace."""
    args = parser().parse_args(argv)
    try:
        return _plan(args)
    except (ExpectedError, OSError) as error:
        if args.verbose:
            traceback.print_exc()
        print(f"plan: {error}", file=sys.stderr)
        return USAGE


def _plan(args: argparse.Namespace) -> int:
    if args.topology:
        # The compiler alone: it must not look for chips, nor complain that it is on no TPU host.
        for name, value in _NO_TPU_HOST.items():
            os.environ.setdefault(name, value)
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["JAX_OPTIMIZATION_LEVEL"] = args.optimization
    if args.slices > 1 and not args.topology:
        raise ConfigError(f"--slices {args.slices} is a number of --topology")
    from vdiffsr_jax.planning import abstract_programs
    from vdiffsr_jax.planning.assumed import with_assumed_weights
    from vdiffsr_jax.training.config import parse_train
    from vdiffsr_jax.training.settings import with_settings

    values = read_config_file(args.config)
    if "task" not in values:
        raise ConfigError(f"--config {args.config} is a chain of runs; plan one, as --config FILE:{next(iter(values))}")
    cfg = parse_train(with_settings(values, args.settings))
    devices = topology_devices(args.topology, args.slices) if args.topology else local_devices(cfg)
    cfg = on_all(cfg, len(devices))
    if args.step == "sample" and not isinstance(cfg.model, VDiffSRConfig):
        raise ConfigError(f"task {cfg.task} trains a part; only teacher and distill have a sampling step")
    codes = []
    with tempfile.TemporaryDirectory() as folder:
        cfg, assumed = with_assumed_weights(cfg, Path(folder))
        hosts = len({device.process_index for device in devices})
        print(f"{cfg.task}, {args.config}: {len(devices)} x {devices[0].device_kind} on {hosts} hosts")
        print(f"mesh (data, fsdp) = ({len(devices) // cfg.mesh.fsdp}, {cfg.mesh.fsdp}), batch {cfg.batch_size}")
        print(*assumed, sep="\n")
        if args.step != "sample":
            program = abstract_programs.train_program(cfg, devices)
            codes.append(_report("train step", program, devices, cfg.batch_size / len(devices), cfg))
        if args.step != "train" and isinstance(cfg.model, VDiffSRConfig):
            program = abstract_programs.sampling_program(
                cfg.model, devices[0], batch=args.sample_batch, dtype=args.sample_dtype
            )
            codes.append(_report("sampling step, one step per tile", program, devices[:1], args.sample_batch, None))
    return max(codes)


def topology_devices(name: str, slices: int) -> list[jax.Device]:
    """The chips of `slices` TPU topologies that need not exist.

    Raises: ConfigError if the topology is unknown or the compiler absent.
    """
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(name, platform="tpu", num_slices=slices).devices)
    except Exception as error:
        raise ConfigError(
            f"--topology {name}: {first_line(error)} (names are like v5e:4x4; the compiler comes with the extra "
            "vdiffsr-jax[tpu])"
        ) from error


def local_devices(cfg: TrainConfig) -> list[jax.Device]:
    """This machine's devices."""
    import jax

    from vdiffsr_jax.training.sharding import use_cpu_devices

    use_cpu_devices([cfg])
    return jax.devices()


def on_all(cfg: TrainConfig, count: int) -> TrainConfig:
    """The run on `count` devices: as many samples for each as on the mesh it was written for.

    Raises: ConfigError if mesh.fsdp does not divide them.
    """
    if count % cfg.mesh.fsdp:
        raise ConfigError(f"mesh.fsdp={cfg.mesh.fsdp} does not divide {count} devices")
    written_for = cfg.mesh.data * cfg.mesh.fsdp
    mesh = dataclasses.replace(cfg.mesh, data=0)
    batch = cfg.batch_size * count // written_for if written_for else cfg.batch_size
    return dataclasses.replace(cfg, mesh=mesh, batch_size=batch)


def _report(title: str, program: Program, devices: Sequence[jax.Device], batch: float, cfg: TrainConfig | None) -> int:
    import jax

    from vdiffsr_jax.planning.collectives import collective_bytes
    from vdiffsr_jax.training.speed import chip_of

    chip = chip_of(devices[0].device_kind)
    print(f"\n{title}, per device\n\n| | |\n| --- | ---: |")

    def row(name: str, value: str) -> None:
        print(f"| {name} | {value} |", flush=True)

    for name, size in program.inputs.items():
        row(name, _gib(size))
    row("work", f"{program.flops / 1e12:.2f} TFLOP")
    started = time.monotonic()
    try:
        compiled = program.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        row("fits", "no")
        print(f"\n{_advice(str(error), cfg)}")
        return DOES_NOT_FIT
    memory, text = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None, "every backend of a plan reports its memory"
    assert text is not None, "and its program"
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    peak += memory.generated_code_size_in_bytes - memory.alias_size_in_bytes
    row("activations and temporaries", _gib(memory.temp_size_in_bytes))
    row("peak memory", _gib(peak) + (f" of {_gib(chip.memory)}" if chip else ""))
    for kind, size in sorted(collective_bytes(text).items()):
        row(f"collectives, {kind}", f"{size / 2**20:.1f} MiB")
    estimate = (compiled.cost_analysis() or {}).get("optimal_seconds", 0.0)
    if estimate > 0:
        row("the compiler's own estimate", f"{estimate * 1000:.1f} ms, {batch / estimate:.1f} images/s")
    if chip:
        seconds = program.flops / (_MFU * chip.flops)
        row(
            f"at {_MFU:.0%} of {chip.flops / 1e12:.0f} TFLOP/s",
            f"{seconds * 1000:.1f} ms, {batch / seconds:.1f} images/s",
        )
        if cfg is not None:
            row("host cores for the data, a device", f"{_cores(cfg, batch / seconds):.1f}")
            row(f"time of {cfg.steps} steps", f"{cfg.steps * seconds / 3600:.1f} hours")
    row("compiled in", f"{time.monotonic() - started:.0f} s")
    if chip and peak > chip.memory:
        print(f"\n{_advice(f'{_gib(peak)} needed, {_gib(chip.memory)} there', cfg)}")
        return DOES_NOT_FIT
    return FITS


def _cores(cfg: TrainConfig, images_per_second: float) -> float:
    """Cores that make as many samples as a device uses, by making a few here."""
    from vdiffsr_jax.data.pipeline import Samples

    drawn = dataclasses.replace(cfg.data, sources=(), valid_sources=(), synthetic_fraction=1.0)
    if drawn.degradation == "paired":
        drawn = dataclasses.replace(drawn, degradation="none", lr_sources=(), valid_lr_sources=())
    samples = Samples(drawn, seed=0)
    samples(0)
    started, count = time.process_time(), 0
    while time.process_time() - started < 2:
        count += 1
        samples(count)
    return images_per_second * (time.process_time() - started) / count


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _advice(problem: str, cfg: TrainConfig | None) -> str:
    first = problem.strip().partition("\n")[0]
    if cfg is None:
        return f"does not fit ({first}): lower --sample_batch"
    from vdiffsr_jax.training import tasks
    from vdiffsr_jax.training.tasks.autoencoder import AutoencoderTask

    again = cfg.remat != "full" and not issubclass(tasks.find(cfg.task), AutoencoderTask)  # which has no remat
    ways = [f"--set mesh.fsdp={cfg.mesh.fsdp * 2} --set mesh.data=0 (shards weights and optimiser)"]
    ways += ["--set remat=full"] if again else []
    ways += [] if cfg.frozen_dtype == "bfloat16" else ["--set dtype=bfloat16 --set frozen_dtype=bfloat16"]
    ways += [f"--set accumulate={cfg.accumulate * 2}", f"--set batch_size={max(cfg.batch_size // 2, 1)}"]
    return f"does not fit ({first}); in this order: {', '.join(ways)}"


if __name__ == "__main__":
    sys.exit(main())
