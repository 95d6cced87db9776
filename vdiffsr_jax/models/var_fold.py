"""A VAR made smaller for inference: LoRA merged into the kernels, AdaLN of one class folded into constants."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import VARConfig
from vdiffsr_jax.models.build import Params


def _merged(kernel: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return kernel + jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST).astype(kernel.dtype)


def merge_lora(params: Params, merged: Callable[[Any, Any, Any], Any] = _merged) -> Params:
    """Every kernel W with an update becomes W + A B, and the update disappears.

    Args: merged: (W, A, B) -> W + A B, for leaves that are no arrays.
    Source: LoRA (arXiv:2106.09685), section 4.1.
    """
    if "lora_a" in params:
        rest = {name: leaf for name, leaf in params.items() if name not in ("kernel", "lora_a", "lora_b")}
        return rest | {"kernel": merged(params["kernel"], params["lora_a"], params["lora_b"])}
    return {name: merge_lora(leaf, merged) if isinstance(leaf, dict) else leaf for name, leaf in params.items()}


def fold_class(params: Params, cfg: VARConfig, label: int) -> tuple[Params, VARConfig]:
    """Constants in place of everything that depends on the class alone, for VAR or its trunk.

    Each block keeps its six AdaLN vectors `ada_gss`, the head its two `head_gss`; the class embedding is added to
    `pos_start`. Depth 16: 310.3 M parameters become 206.5 M.
    """
    if cfg.folded:
        raise ValueError("this VAR is folded already: it knows one class only")
    cond = params["class_embed"][label]
    active = jax.nn.silu(cond)

    def project(linear: Any, rows: int) -> jax.Array:
        y: jax.Array = jnp.dot(active, linear["kernel"], precision=jax.lax.Precision.HIGHEST) + linear["bias"]
        return y.reshape(rows, -1)

    gone = ("class_embed", "shared_ada", "head_ada")
    folded = {name: leaf for name, leaf in params.items() if name not in gone}
    folded["pos_start"] = params["pos_start"] + cond[None]
    if "head_ada" in params:
        folded["head_gss"] = project(params["head_ada"], 2)
    folded["blocks"] = {}
    for i, block in params["blocks"].items():
        rest = {name: leaf for name, leaf in block.items() if name != "ada"}
        six = block["ada_gss"] + project(params["shared_ada"], 6) if cfg.shared_aln else project(block["ada"], 6)
        folded["blocks"][i] = rest | {"ada_gss": six}
    return folded, dataclasses.replace(cfg, folded=True)
