"""Work of a traced program: the FLOPs of its matrix products and convolutions, loops as often as they run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

# Products of queries with keys, or of as many numbers, in cuDNN's kernels: backwards the logits are computed again.
_CUDNN = {"dot_product_attention_fwd_wrapper": 2, "dot_product_attention_bwd_wrapper": 5}
_AGAIN = {"checkpoint", "remat2", "dot_product_attention_bwd_wrapper"}


def count_flops(program: ClosedJaxpr | Jaxpr) -> int:
    """FLOPs of one run over all devices, a multiplication and an addition being two.

    Recomputation under remat counts; elementwise operations, a few per cent in these networks, do not. Of a conditional
    the longest branch counts, of a loop whose length only the data tells one turn.

    Args: program: `traced.jaxpr`, before it is partitioned over devices.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def recomputes(program: ClosedJaxpr | Jaxpr) -> bool:
    """Whether anything in it is computed a second time for gradients."""
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return any(eqn.primitive.name in _AGAIN or any(map(recomputes, _inner(eqn))) for eqn in jaxpr.eqns)


def _equation(eqn: JaxprEqn) -> int:
    if products := _CUDNN.get(eqn.primitive.name):
        b, queries, heads, dim = _shape(eqn.invars[0])
        return products * 2 * b * queries * _shape(eqn.invars[1])[1] * heads * dim
    inner = [count_flops(part) for part in _inner(eqn)]
    match eqn.primitive.name:
        case "dot_general":
            contracted: tuple[int, ...] = eqn.params["dimension_numbers"][0][0]
            left = _shape(eqn.invars[0])
            return 2 * _size(eqn.outvars[0]) * math.prod(left[d] for d in contracted)
        case "conv_general_dilated":
            return _convolution(eqn)
        case "cond":
            return max(inner)
        case "scan":
            return int(eqn.params["length"]) * sum(inner)
        case "shard_map":  # its body is the part of one device
            axes = eqn.params["newly_manual_axes"]
            devices = math.prod(int(eqn.params["mesh"].shape[axis]) for axis in axes)
            return devices * sum(inner)
    return sum(inner)


def _convolution(eqn: JaxprEqn) -> int:
    """Every output is one product with a kernel; zeros that dilate the input (a strided gradient's) are not work."""
    kernel = _shape(eqn.invars[1])
    outputs: int = eqn.params["dimension_numbers"].rhs_spec[0]
    products = math.prod(kernel) // kernel[outputs]
    return 2 * _size(eqn.outvars[0]) * products // math.prod(map(int, eqn.params["lhs_dilation"]))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.aval.shape)


def _size(value: Any) -> int:
    return math.prod(_shape(value))


def _inner(eqn: JaxprEqn) -> Iterator[ClosedJaxpr | Jaxpr]:
    for value in eqn.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, ClosedJaxpr | Jaxpr):
                yield part
