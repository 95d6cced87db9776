"""VAR's tokenizer against the original: features, codes and sums of every level, teacher-forcing input, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tests.conversion.in_memory import convert
from tests.parity_kinds import weights
from vdiffsr_jax.conversion.var_tokenizer import TABLE, infer_config
from vdiffsr_jax.models.build import Network, Params, build, flatten, unflatten
from vdiffsr_jax.models.var_tokenizer import VARTokenizer


class Tokenizer(VARTokenizer):
    """It tells what is on its way."""

    def everything(self, image: jax.Array, tokens: list[jax.Array]) -> dict[str, jax.Array]:
        """What follows from a picture and from the tokens of every level."""
        f = self.encode(image)
        ours = self.tokens(f)
        training = self(image)
        result = {"enc_out": self.encoder(image), "f": f, "forward_vq_loss": training.vq_loss}
        result |= {"forward_rec": training.image, "var_input": self.var_input_and_f_hat(ours)[0]}
        for k, (index, ours_k, theirs_k) in enumerate(zip(ours, self.f_hats(ours), self.f_hats(tokens), strict=True)):
            result |= {f"idx_{k}": index, f"fhat_{k}": ours_k, f"embed_to_fhat_{k}": theirs_k}
        result["dec_unclamped"] = self.decode(self.f_hats(tokens)[-1])
        result["img_from_idx"] = self.tokens_to_image(tokens)
        return result


def load(
    folder: Path, patch_nums: Sequence[int], stem: str = "weights", dtype: DTypeLike = jnp.float32
) -> tuple[Network, Params]:
    """Network and converted parameters of the file of weights called `stem`."""
    tensors = weights.load(folder, stem)
    cfg = infer_config({name: array.shape for name, array in tensors.items()}, patch_nums=patch_nums)
    network = build(Tokenizer, cfg, dtype=dtype)
    flat = convert(TABLE, tensors, tensors.__getitem__, flatten(network.abstract), f"{folder}/{stem}")
    return network, unflatten(flat, network.abstract)


def outputs(folder: Path, io: Mapping[str, np.ndarray], dtype: DTypeLike = jnp.float32) -> dict[str, np.ndarray]:
    """Every output of `img`, NCHW maps and (b, n, c) tokens; what `io` does not hold is left out."""
    patch_nums = json.loads((folder / "config.json").read_text())["v_patch_nums"]
    network, params = load(folder, patch_nums, dtype=dtype)
    tokens = [io[f"idx_{k}"].astype(np.int32) for k in range(len(patch_nums))]
    made = jax.jit(network.method(Tokenizer.everything))(params, np.moveaxis(io["img"], 1, -1), tokens)
    arrays = {name: np.asarray(array) for name, array in made.items() if name in io}
    return {name: np.moveaxis(array, -1, 1) if array.ndim == 4 else array for name, array in arrays.items()}
