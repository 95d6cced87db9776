"""The VQGAN first stage against the original: latents, codes, loss and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from tests.parity_kinds import weights
from vdiffsr_jax.conversion.rules import convert
from vdiffsr_jax.conversion.vqgan import TABLE, infer_config
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.vqgan import VQGAN


def load(folder: Path) -> tuple[Network, Params]:
    """Network and converted parameters of a golden folder."""
    tensors = weights.load(folder)
    network = build(VQGAN, infer_config({name: array.shape for name, array in tensors.items()}))
    flat = convert(TABLE, tensors, tensors.__getitem__, flatten(network.abstract), str(folder))
    return network, unflatten(flat, network.abstract)


def outputs(folder: Path, io: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output of `img`, `z_in` and `odd_img`, NCHW."""
    network, params = load(folder)

    def run(method: str, x: np.ndarray, **options: bool):
        return jax.jit(lambda p, x: network.apply(p, x, method=method, **options))(params, x)

    result: dict[str, np.ndarray] = {}
    for prefix in ("", "odd_"):
        z = run("encode", np.moveaxis(io[f"{prefix}img"], 1, -1))
        z_q, indices, loss = run("quantize", z)
        result |= {
            f"{prefix}z_enc": _nchw(z),
            f"{prefix}z_quant": _nchw(z_q),
            f"{prefix}indices": np.asarray(indices),
            f"{prefix}vq_loss": np.asarray(loss),
            f"{prefix}dec_quant": _nchw(run("decode", z)),
        }
        if f"{prefix}dec_noquant" in io:
            result[f"{prefix}dec_noquant"] = _nchw(run("decode", z, quantize=False))
    z_in = np.moveaxis(io["z_in"], 1, -1)
    result["zin_indices"] = np.asarray(run("quantize", z_in)[1])
    result["dec_zin_quant"] = _nchw(run("decode", z_in))
    return result


def _nchw(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, 1)
