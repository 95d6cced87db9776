"""The PyTorch tensors of a golden folder, under their original names and in their original layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tests.golden.fill import fill
from vdiffsr_jax.conversion import torch_file


def load(folder: Path, stem: str = "weights") -> dict[str, np.ndarray]:
    """`stem`.safetensors, `stem`.pth, or `stem`.names.json with the fill recipe; there, buffers are zeros.

    (The buffers follow from the config and are dropped by the conversion; only their names matter.)
    """
    file = folder / f"{stem}.safetensors"
    if file.exists():
        return load_file(file)
    file = folder / f"{stem}.pth"
    if file.exists():
        return {name: array.read() for name, array in torch_file.read(file).items()}
    names = json.loads((folder / f"{stem}.names.json").read_text())
    seed = json.loads((folder / "config.json").read_text())["seed"]
    return {
        name: fill(name, spec["shape"], seed) if spec.get("filled", True) else np.zeros(spec["shape"], np.float32)
        for name, spec in names["tensors"].items()
    }
