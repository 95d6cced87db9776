"""VAR's tokenizer against the original: features, codes and sums of every level, teacher-forcing input, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from tests.conversion.in_memory import convert
from tests.parity_kinds import weights
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

    @jax.jit
    def everything(params: Params, image: jax.Array, tokens: list[jax.Array]) -> dict[str, jax.Array]:
        model = nnx.merge(network.graphdef, params)
        f = model.encode(image)
        ours = model.tokens(f)
        training = model(image)
        result = {"enc_out": model.encoder(image), "f": f, "forward_vq_loss": training.vq_loss}
        result |= {"forward_rec": training.image, "var_input": model.var_input_and_f_hat(ours)[0]}
        for k, (index, ours_k, theirs_k) in enumerate(zip(ours, model.f_hats(ours), model.f_hats(tokens), strict=True)):
            result |= {f"idx_{k}": index, f"fhat_{k}": ours_k, f"embed_to_fhat_{k}": theirs_k}
        result["dec_unclamped"] = model.decode(model.f_hats(tokens)[-1])
        result["img_from_idx"] = model.tokens_to_image(tokens)
        return result

    tokens = [io[f"idx_{k}"].astype(np.int32) for k in range(len(patch_nums))]
    made = everything(params, np.moveaxis(io["img"], 1, -1), tokens)
    arrays = {name: np.asarray(array) for name, array in made.items() if name in io}
    return {name: np.moveaxis(array, -1, 1) if array.ndim == 4 else array for name, array in arrays.items()}
