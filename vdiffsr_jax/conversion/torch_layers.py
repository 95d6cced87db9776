"""How PyTorch lays out a layer's arrays and names them, and how we do."""

from __future__ import annotations

import numpy as np

from vdiffsr_jax.conversion.rules import Op, Rule

LINEAR = Op(np.transpose, np.transpose)  # (out, in) <-> (in, out)
CONV = Op(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))  # OIHW <-> HWIO
CONV1X1 = Op(lambda x: x.squeeze((2, 3)).T, lambda x: x.T[:, :, None, None])  # OI11 <-> (in, out); 3x3 fits nowhere


def squeeze(n: int) -> Op:
    """Drop the `n` leading axes, of length one."""
    return Op(lambda x: x.reshape(x.shape[n:]), lambda x: x.reshape((1,) * n + x.shape))


def layer(theirs: str, ours: str, op: Op) -> list[Rule]:
    """Weight and bias of a convolution or a linear map."""
    return [Rule(rf"{theirs}\.weight", f"{ours}/kernel", op), Rule(rf"{theirs}\.bias", f"{ours}/bias")]


def norm(theirs: str, ours: str) -> list[Rule]:
    """Weight and bias of a normalisation."""
    return [Rule(rf"{theirs}\.weight", f"{ours}/scale"), Rule(rf"{theirs}\.bias", f"{ours}/bias")]


def batch_norm(theirs: str, ours: str) -> list[Rule]:
    """A BatchNorm with the statistics it was trained to."""
    return [
        *norm(theirs, ours),
        Rule(rf"{theirs}\.running_mean", f"{ours}/mean"),
        Rule(rf"{theirs}\.running_var", f"{ours}/var"),
    ]
