"""The VQGAN first stage against the original: latents, codes, loss and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tests.conversion.in_memory import convert
from tests.parity_kinds import weights
from vdiffsr_jax.conversion.vqgan import TABLE, infer_config
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.vqgan import VQGAN


def load(folder: Path, dtype: DTypeLike = jnp.float32) -> tuple[Network, Params]:
    """Network and converted parameters of a golden folder."""
    tensors = weights.load(folder)
    network = build(VQGAN, infer_config({name: array.shape for name, array in tensors.items()}), dtype=dtype)
    flat = convert(TABLE, tensors, tensors.__getitem__, flatten(network.abstract), str(folder))
    return network, unflatten(flat, network.abstract)


def outputs(folder: Path, io: Mapping[str, np.ndarray], dtype: DTypeLike = jnp.float32) -> dict[str, np.ndarray]:
    """Every output of `img`, `z_in` and `odd_img`, NCHW; pictures that `io` does not hold are not decoded."""
    network, params = load(folder, dtype)
    quantize = network.method(VQGAN.quantize)

    @jax.jit
    def everything(params: Params, image: jax.Array, z_in: jax.Array | None) -> dict[str, jax.Array]:
        z = network.method(VQGAN.encode)(params, image)
        z_q, indices, loss = quantize(params, z)
        latents = {"dec_quant": z_q}
        result = {"z_enc": z, "z_quant": z_q, "indices": indices, "vq_loss": loss}
        if z_in is not None:
            latents["dec_zin_quant"], result["zin_indices"], _ = quantize(params, z_in)
            if "dec_noquant" in io:
                latents["dec_noquant"] = z
        pictures = network.method(VQGAN.decode)(params, jnp.concatenate(list(latents.values())), quantize=False)
        return result | dict(zip(latents, jnp.split(pictures, len(latents)), strict=True))

    image, z_in, odd = (np.moveaxis(io[name], 1, -1) for name in ("img", "z_in", "odd_img"))
    made = dict(everything(params, image, z_in))
    made |= {f"odd_{name}": array for name, array in everything(params, odd, None).items()}
    return {name: _nchw(array) if array.shape[-1:] == (3,) else np.asarray(array) for name, array in made.items()}


def _nchw(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, 1)
