"""Everything once at the published size, from files to files; each step is the command that a person would type.

    python -m benchmarks.full_size --output full_size                   the published size on a CPU
    python -m benchmarks.full_size --output tried --preset small        the same commands on the smoke run's networks

Random tensors under the published names -> converted and assembled -> `train.py --config configs/vdiffsr_x4.py`, two
steps of one crop, killed after the first and continued -> a photo of several tiles upscaled by what it exported -> back
to PyTorch's names. OUTPUT/steps.json and steps.md are written after every step; a step that stands there is not
repeated. The time is the command's wall time, the memory the most that its process held. Nothing here needs PyTorch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.command import refusing
from vdiffsr_jax.photos.write import write_whole

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "vdiffsr_jax" / "assets" / "examples"
RUN = "runs/vdiffsr_x4"
PLAIN = ["--denoiser", "published/resshift_realsrx4_s15_v1.pth", "--first-stage", "published/autoencoder_vq_f4.pth"]
PRIOR = ["--var", "published/var_d16.pth", "--tokenizer", "published/vae_ch160v4096z32.pth"]
SINGLE: dict[str, list[str]] = {
    "vae_ch160v4096z32": [],
    "var_d16": [],
    "lpips_vgg": ["--backbone", "vgg16"],
    "lpips_alex": ["--backbone", "alexnet"],
}
# remat=full: in 24 GiB of host memory.
SETTINGS = [
    "batch_size=1",
    "steps=2",
    "mesh.data=1",
    "data.num_workers=0",
    "checkpoint.every=1",
    "log_every=1",
    "remat=full",
]
SMALL = '''"""vdiffsr_x4 on the smoke run's networks."""

from smoke import VDIFFSR
from vdiffsr_x4 import get_config as full_size


def get_config():
    config = full_size()
    config.model = {name: part for name, part in VDIFFSR.items() if name != "schedule"}
    config.data.crop_size = 32
    return config
'''


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of Python. `kill_at`: it is killed (-9) as soon as this path is there, and must not end before."""

    name: str
    arguments: list[str]
    kill_at: str | None = None


def steps(preset: str) -> list[Step]:
    """All commands in their order; their paths are relative to OUTPUT, as the configuration's are."""
    convert, train, sample = (str(ROOT / f"{name}.py") for name in ("convert_torch_weights", "train", "sample"))

    def converting(name: str, flags: list[str], told: str) -> Step:
        settings = ["--config", f"published/{told}.json"] if preset == "small" else []  # names do not tell small sizes
        return Step(f"convert {name}", [convert, *flags, *settings, "--output", f"checkpoints/{name}"])

    config = str(ROOT / "configs" / "vdiffsr_x4.py") if preset == "published" else "small.py"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    training = [train, "--config", config, "--workdir", RUN, *settings]
    return [
        Step("random weights", ["-m", "benchmarks.random_weights", "--preset", preset, "--output", "published"]),
        *(converting(name, [f"published/{name}.pth", *flags], name) for name, flags in SINGLE.items()),
        converting("resshift_realsrx4", PLAIN, "plain"),
        converting("vdiffsr", PLAIN + PRIOR, "model"),
        *(Step(f"photos, {part}", [sample, "-i", str(EXAMPLES), "-o", f"data/{part}"]) for part in ("train", "valid")),
        Step("train, killed after step 1", training, kill_at=f"{RUN}/checkpoints/1"),
        Step("train, continued and exported", training),
        Step("sample", [sample, "-i", str(EXAMPLES / "colorfulcups.png"), "-o", "results", "--ckpt", f"{RUN}/model"]),
        *(
            Step(f"to PyTorch, {part}", [convert, "--to-torch", f"{RUN}/model", "--part", part,
                                         "--output", f"torch_{part}.safetensors"])
            for part in ("denoiser", "first_stage", "pvar")
        ),
    ]  # fmt: skip


def run(step: Step, folder: Path) -> dict[str, Any]:
    """One command to its end, its words in OUTPUT/log. Raises: SystemExit if it did not end as it should."""
    command = [sys.executable, *step.arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    started, killed = time.monotonic(), False
    with (folder / "log").open("a") as log:
        log.write(f"$ {shown(step)}\n")
        log.flush()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if step.kill_at and not killed and (folder / step.kill_at).exists():
                process.send_signal(signal.SIGKILL)
                killed = True
            time.sleep(0.05)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code != (-signal.SIGKILL if step.kill_at else 0) or killed != bool(step.kill_at):
        raise SystemExit(f"{step.name}: exit code {code}; what it said stands in {folder / 'log'}")
    return {
        "step": step.name,
        "command": shown(step),
        "seconds": round(time.monotonic() - started, 1),
        "CPU seconds": round(used.ru_utime + used.ru_stime, 1),
        "memory GB": round(used.ru_maxrss * 1024 / 1e9, 2),
    }


def shown(step: Step) -> str:
    """The command as one would type it in OUTPUT."""
    return shlex.join(["python", *(word.replace(f"{ROOT}/", "") for word in step.arguments)])


def table(done: list[dict[str, Any]]) -> str:
    """The steps as Markdown."""
    lines = ["| step | time, s | CPU, s | memory, GB |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {d['step']} | {d['seconds']} | {d['CPU seconds']} | {d['memory GB']} |" for d in done]
    return "\n".join(lines) + "\n"


def measure(preset: str, folder: Path) -> list[dict[str, Any]]:
    """Every step that is not done yet. Raises: SystemExit at the first that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.py").write_text(SMALL)
    file = folder / "steps.json"
    done = json.loads(file.read_text()) if file.exists() else []
    for step in steps(preset)[len(done) :]:
        print(f"{step.name}: {shown(step)}", flush=True)
        done.append(run(step, folder))
        write_whole(file, [json.dumps(done, indent=1).encode() + b"\n"])
        write_whole(folder / "steps.md", [table(done).encode()])
    return done


@refusing
def main() -> None:
    """Run what is left and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("published", "small"), default="published")
    parser.add_argument("--output", type=Path, required=True, help="folder; the published size needs 25 GB")
    args = parser.parse_args()
    print(table(measure(args.preset, args.output)))


if __name__ == "__main__":
    sys.exit(main())
