"""The Swin UNet against the original: every block's output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tests.conversion.in_memory import convert
from tests.parity_kinds import weights
from vdiffsr_jax.config import SwinUNetConfig, parse
from vdiffsr_jax.conversion.swin_unet import TABLE
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.swin_unet import SwinUNet

FIELDS = SwinUNetConfig.__dataclass_fields__


def load(folder: Path, dtype: DTypeLike = jnp.float32) -> tuple[SwinUNetConfig, Network, Params]:
    """Config, network and converted parameters of a golden folder."""
    model = json.loads((folder / "config.json").read_text())["model"]
    if model.pop("cond_lq") and model["in_channels"] == model["out_channels"]:
        model["in_channels"] += 3
    cfg = parse(SwinUNetConfig, {name: value for name, value in model.items() if name in FIELDS})
    network = build(SwinUNet, cfg, dtype=dtype)
    tensors = weights.load(folder)
    flat = convert(TABLE, tensors, tensors.__getitem__, flatten(network.abstract), str(folder))
    return cfg, network, unflatten(flat, network.abstract)


def outputs(folder: Path, io: Mapping[str, np.ndarray], dtype: DTypeLike = jnp.float32) -> dict[str, np.ndarray]:
    """{CASE_BLOCK: output} in NCHW for every case whose inputs are in `io`; slices where the folder keeps slices."""
    _, network, params = load(folder, dtype)
    result: dict[str, np.ndarray] = {}
    for case in sorted(name.removesuffix("_x") for name in io if name.endswith("_x")):
        x, lr = (np.moveaxis(io[f"{case}_{name}"], 1, -1) for name in ("x", "lq"))
        run = jax.jit(lambda p, *args: dict(network.method(SwinUNet.blocks)(p, *args)))
        for block, value in run(params, x, io[f"{case}_t"], lr).items():
            array = np.asarray(value)
            array = np.moveaxis(array, -1, 1) if array.ndim == 4 else array
            name = f"{case}_{block}"
            if name in io:
                result[name] = array
            if f"{name}_corner" in io:
                result[f"{name}_corner"] = array[:, ::16, :8, :8]
                result[f"{name}_end"] = array[:, 1::16, -8:, -8:]
                result[f"{name}_mean_c"] = array.mean(axis=(0, 2, 3))
    return result
