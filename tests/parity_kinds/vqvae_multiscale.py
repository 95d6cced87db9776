"""VAR's tokenizer against the original: features, codes and sums of every level, teacher-forcing input, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.parity_kinds import weights
from vdiffsr_jax.conversion.rules import convert
from vdiffsr_jax.conversion.var_tokenizer import TABLE, infer_config
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.var_tokenizer import VARTokenizer


def load(folder: Path, patch_nums: Sequence[int], stem: str = "weights") -> tuple[Network, Params]:
    """Network and converted parameters of the file of weights called `stem`."""
    tensors = weights.load(folder, stem)
    cfg = infer_config({name: array.shape for name, array in tensors.items()}, patch_nums=patch_nums)
    network = build(VARTokenizer, cfg)
    flat = convert(TABLE, tensors, tensors.__getitem__, flatten(network.abstract), f"{folder}/{stem}")
    return network, unflatten(flat, network.abstract)


def outputs(folder: Path, io: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output of `img`, NCHW maps and (b, n, c) tokens; what `io` does not hold is left out."""
    patch_nums = json.loads((folder / "config.json").read_text())["v_patch_nums"]
    network, params = load(folder, patch_nums)

    def run(method: str, *args: Any) -> Any:
        return jax.jit(lambda p, *a: network.apply(p, *a, method=method))(params, *args)

    image = np.moveaxis(io["img"], 1, -1)
    f = run("encode", image)
    tokens = run("tokens", f)
    f_hats = run("f_hats", tokens)
    rebuilt = run("f_hats", [jnp.asarray(io[f"idx_{k}"], jnp.int32) for k in range(len(patch_nums))])
    training = run("__call__", image)
    result = {
        "enc_out": _nchw(jax.jit(lambda p, x: nnx.merge(network.graphdef, p).encoder(x))(params, image)),
        "f": _nchw(f),
        "var_input": np.asarray(run("var_input", tokens)),
        "dec_unclamped": _nchw(run("decode", f_hats[-1])),
        "img_from_idx": _nchw(run("tokens_to_image", tokens)),
        "forward_rec": _nchw(training.image),
        "forward_vq_loss": np.asarray(training.vq_loss),
    }
    for k, (index, f_hat, again) in enumerate(zip(tokens, f_hats, rebuilt, strict=True)):
        result |= {f"idx_{k}": np.asarray(index), f"fhat_{k}": _nchw(f_hat), f"embed_to_fhat_{k}": _nchw(again)}
    return {name: array for name, array in result.items() if name in io}


def _nchw(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, 1)
