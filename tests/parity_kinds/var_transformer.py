"""VAR's transformer against the original: hidden states, logits, and guided generation with its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tests.conversion.in_memory import convert
from tests.parity_kinds import vqvae_multiscale, weights
from vdiffsr_jax.conversion.var import TABLE, infer_config
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.var import VAR
from vdiffsr_jax.models.var_generate import make_generate


def load(folder: Path, dtype: DTypeLike = jnp.float32) -> tuple[Network, Params]:
    """Network and converted parameters of the folder's transformer."""
    config = json.loads((folder / "config.json").read_text())["var"]
    tensors = weights.load(folder)
    cfg = infer_config({name: array.shape for name, array in tensors.items()}, patch_nums=config["patch_nums"])
    network = build(VAR, cfg, dtype=dtype)
    flat = convert(TABLE, tensors, tensors.__getitem__, flatten(network.abstract), str(folder))
    return network, unflatten(flat, network.abstract)


def outputs(folder: Path, io: Mapping[str, np.ndarray], dtype: DTypeLike = jnp.float32) -> dict[str, np.ndarray]:
    """Every output of the teacher-forced pass (`label`, `x_in`) and of greedy generation (`ar_label`)."""
    config = json.loads((folder / "config.json").read_text())
    network, params = load(folder, dtype)
    tokenizer, tokenizer_params = vqvae_multiscale.load(folder, config["var"]["patch_nums"], "vae", dtype)

    @jax.jit
    def forced(params: Params, label: jax.Array, x_in: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        taps = list(range(1, config["var"]["depth"] + 1))
        hidden = network.method(VAR.hidden_states)(params, label, x_in, taps)
        return hidden, network.apply(params, label, x_in)

    hidden, logits = forced(params, jnp.asarray(io["label"], jnp.int32), jnp.asarray(io["x_in"]))
    generate = make_generate(network, tokenizer, guidance=config["cfg"], top_k=config["top_k"])
    label = jnp.asarray(io["ar_label"], jnp.int32)
    generated, image = generate(params, tokenizer_params, label, jax.random.key(config["seed"]))
    result = {"logits": logits, "ar_fhat": jnp.moveaxis(generated.f_hat, -1, 1)}
    result |= {f"hidden_{i}": h for i, h in enumerate(hidden)}
    result |= {f"ar_idx_{k}": tokens for k, tokens in enumerate(generated.tokens)}
    result |= {f"ar_logits_cfg_{k}": x for k, x in enumerate(generated.logits)}
    result["ar_img"] = (jnp.moveaxis(image, -1, 1) + 1) / 2
    return {name: np.asarray(array) for name, array in result.items()}
