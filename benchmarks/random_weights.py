"""Random tensors in files as they are published: names, shapes and buffers of PyTorch's state dicts, in its zip format.

    python -m benchmarks.random_weights --preset published --output published

Writes what `configs/vdiffsr_x4.py` starts from, and beside each file its configuration for `convert_torch_weights.py
--config`: that of a small network is not to be told from names and shapes. model.json and plain.json are those of the
whole model with and without its prior.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import refusing
from tests.conversion import torch_writer
from tests.golden.fill import fill
from vdiffsr_jax.config import VDiffSRConfig, parse, to_dict
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.conversion import recognise
from vdiffsr_jax.conversion.buffers import buffers
from vdiffsr_jax.conversion.original_names import original_names
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten

PRESETS = ("published", "small")


def model(preset: str) -> VDiffSRConfig:
    """The sizes of all networks: those published, or those of the smoke run."""
    if preset == "published":
        return VDiffSRConfig()
    values = read_config_file("smoke")["distill"]["model"]
    return parse(VDiffSRConfig, values | {"schedule": {}})


def networks(preset: str) -> dict[str, tuple[str, Any]]:
    """{file without its ending: (kind, configuration)}."""
    cfg = model(preset)
    assert cfg.prior is not None
    return {
        "resshift_realsrx4_s15_v1": ("swin_unet", kinds.DenoiserConfig(cfg.denoiser, cfg.schedule)),
        "autoencoder_vq_f4": ("vqgan", cfg.first_stage),
        "vae_ch160v4096z32": ("var_tokenizer", cfg.prior.tokenizer),
        "var_d16": ("var", cfg.prior.var),
        "lpips_vgg": ("perceptual", kinds.PerceptualConfig("vgg16")),
        "lpips_alex": ("perceptual", kinds.PerceptualConfig("alexnet")),
    }


def tensors(kind: str, config: Any) -> Mapping[str, np.ndarray]:
    """{PyTorch name: value} of one network, as its state dict has them."""
    flat = flatten(kinds.network(kind, kind, config).abstract)
    result = {}
    for name, (path, op) in original_names(recognise.KINDS[kind].table(config), flat).items():
        shape = op.inverse(np.broadcast_to(np.float32(0), flat[path].shape)).shape
        value = fill(name, shape)
        result[name] = np.abs(value) if name.startswith("lin") else value  # LPIPS is a distance: no weight below zero
    return result | buffers(kind, config)


@refusing
def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="published")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    whole = to_dict(model(args.preset))
    for name, values in (("model", whole), ("plain", whole | {"prior": None})):
        (args.output / f"{name}.json").write_text(json.dumps(values))
    for name, (kind, config) in networks(args.preset).items():
        (args.output / f"{name}.json").write_text(json.dumps(to_dict(config)))
        file = torch_writer.save(args.output / f"{name}.pth", tensors(kind, config))
        print(f"{file}: {kind}, {file.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
