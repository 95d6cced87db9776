"""Class-conditional images from VAR and its tokenizer, as one compiled function."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int, PRNGKeyArray

from vdiffsr_jax.models.build import Network, Params
from vdiffsr_jax.models.var import VAR, Generated
from vdiffsr_jax.models.var_tokenizer import VARTokenizer

Generate = Callable[[Params, Params, Int[Array, " b"], PRNGKeyArray], tuple[Generated, Float32[Array, "b H W 3"]]]


def make_generate(
    var: Network[VAR], tokenizer: Network[VARTokenizer], *, guidance: float = 1.5, top_k: int = 0, top_p: float = 0.0
) -> Generate:
    """Compile generation for a VAR and the tokenizer whose codes it predicts.

    Args: guidance, top_k, top_p: as in `VAR.generate`.
    Returns: (var params, tokenizer params, label, key) -> (Generated, images in [-1, 1]).
    """

    @jax.jit
    def generate(
        var_params: Params, tokenizer_params: Params, label: jax.Array, key: jax.Array
    ) -> tuple[Generated, jax.Array]:
        def next_input(k: int, f_hat: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array | None]:
            return tokenizer.method(VARTokenizer.next_input)(tokenizer_params, k, f_hat, tokens)

        result = var.method(VAR.generate)(
            var_params, next_input, label, key, guidance=guidance, top_k=top_k, top_p=top_p
        )
        return result, jnp.clip(tokenizer.method(VARTokenizer.decode)(tokenizer_params, result.f_hat), -1, 1)

    return generate
