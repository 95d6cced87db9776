"""One model with two ends, a faithful student and a sharp one, and whatever lies between them.

A checkpoint with `config.sharp` holds the faithful end whole and, as its item `sharp`, what the sharp end has of its
own: at most the denoiser, the first stage's decoder and what of the prior can learn. Encoder, codebook and tokenizer
are shared, so both ends speak of the same latents. Between the ends parameters are interpolated, once, before sampling.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vdiffsr_jax.config import SharpConfig, VDiffSRConfig
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params, flatten, unflatten
from vdiffsr_jax.models.prior import prior_class
from vdiffsr_jax.models.vqgan import DECODER

_MOST = 7  # steps of 4 bits reach from -7 to 7
Shapes = dict[str, tuple[int, ...]]


class SharpEnd(nnx.Module):
    """The item `sharp`: of each network that differs the vectors NETWORK.steps, NETWORK.scales and NETWORK.values.

    A kernel's difference to the faithful end is kept in steps of 4 bits, two in a byte, of one size for each output
    channel: a fifth of its place in bfloat16. Biases, norms, and with `sharp.exact` everything, are kept as they are.
    """

    def __init__(self, cfg: VDiffSRConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        one_end = dataclasses.replace(cfg, sharp=None)
        for network in _config(cfg).networks:
            stepped, kept = _layout(network, kinds.network("vdiffsr", network, one_end).abstract, cfg)
            count = sum(math.prod(shape) for shape in stepped.values())
            for part, size, kind in (
                ("steps", -(-count // 2), jnp.uint8),
                ("scales", sum(shape[-1] for shape in stepped.values()), jnp.float32),
                ("values", sum(math.prod(shape) for shape in kept.values()), jnp.float32),
            ):
                if size:
                    setattr(self, f"{network}.{part}", nnx.Param(jnp.zeros((size,), kind)))


def own_parts(network: str, params: Params, cfg: VDiffSRConfig) -> dict[str, Any]:
    """{name: leaf} of what the two ends may have each for itself in one network of the model."""
    flat = flatten(params)
    if network == "first_stage":
        return {name: leaf for name, leaf in flat.items() if name.startswith(DECODER)}
    if network == "pvar":
        assert cfg.prior is not None
        free = dataclasses.replace(cfg.prior, train="full")
        learns = prior_class(cfg.prior).trainable
        return {name: leaf for name, leaf in flat.items() if learns(name, free)}
    return flat


def difference(faithful: Mapping[str, Params], sharp: Mapping[str, Params], cfg: VDiffSRConfig) -> Params:
    """The item `sharp` of a model whose ends are these; kernels to the nearest step of a seventh of the largest.

    Args: faithful: as it will be stored, rounded if it will be. cfg: with `sharp`.
    """
    item: Params = {}
    for network in _config(cfg).networks:
        a, b = ({name: _float(leaf) for name, leaf in flatten(end[network]).items()} for end in (faithful, sharp))
        stepped, kept = _layout(network, faithful[network], cfg)
        steps, scales = [], []
        for name in stepped:
            apart = b[name] - a[name]
            scale = np.abs(apart).max(axis=tuple(range(apart.ndim - 1))) / _MOST
            steps.append(np.round(apart / np.where(scale, scale, 1)).astype(np.int8).ravel())
            scales.append(scale)
        if steps:
            item[f"{network}.steps"] = _two_in_a_byte(np.concatenate(steps))
            item[f"{network}.scales"] = np.concatenate(scales)
        if kept:
            item[f"{network}.values"] = np.concatenate([b[name].ravel() for name in kept])
    return item


def at(
    items: Mapping[str, Params], cfg: VDiffSRConfig, fidelity: float | None = None
) -> tuple[dict[str, Params], VDiffSRConfig]:
    """The model at one fidelity, as a model with one end: 1 is the faithful student, 0 the sharp one, exactly.

    Args: fidelity: the checkpoint's own by default. A model with one end is returned as it is.
    Raises: ValueError if the model has one end only and a fidelity is asked for, or if it is not in 0..1.
    """
    check(cfg, fidelity)
    if cfg.sharp is None:
        return dict(items), cfg
    share = cfg.sharp.fidelity if fidelity is None else fidelity
    mixed = {name: params for name, params in items.items() if name != "sharp"}
    if share < 1:
        for network, sharp in sharp_end(items, cfg).items():
            flat = flatten(mixed[network])
            for name, end in sharp.items():
                flat[name] = mean(_float(flat[name]), end, share).astype(flat[name].dtype)
            mixed[network] = unflatten(flat, mixed[network])
    return mixed, dataclasses.replace(cfg, sharp=None)


def mean(faithful: np.ndarray, sharp: np.ndarray, share: float) -> np.ndarray:
    """share faithful + (1 - share) sharp in float32; at 0 the sharp one itself."""
    return sharp if share == 0 else np.float32(share) * faithful + np.float32(1 - share) * sharp


def check(cfg: VDiffSRConfig, fidelity: float | None) -> None:
    """Raise ValueError unless the model can be asked for this fidelity (None: its own)."""
    if fidelity is None:
        return
    if cfg.sharp is None:
        raise ValueError(
            f"fidelity={fidelity:g}: this model is one student, faithful or sharp, and has no other to go to; leave "
            "the fidelity out"
        )
    if not 0 <= fidelity <= 1:
        raise ValueError(f"fidelity={fidelity:g} must lie in 0 (sharp) to 1 (faithful)")


def sharp_end(items: Mapping[str, Params], cfg: VDiffSRConfig) -> dict[str, dict[str, np.ndarray]]:
    """{network: {parameter: its value at the sharp end, float32}} of all that differs."""
    result = {}
    for network in _config(cfg).networks:
        stepped, kept = _layout(network, items[network], cfg)
        faithful = flatten(items[network])
        own: dict[str, np.ndarray] = {}
        if stepped:
            steps = _split(_from_bytes(items["sharp"][f"{network}.steps"]), stepped)
            scales = _split(
                _float(items["sharp"][f"{network}.scales"]), {name: shape[-1:] for name, shape in stepped.items()}
            )
            own |= {name: _float(faithful[name]) + steps[name] * scales[name] for name in stepped}
        if kept:
            own |= _split(_float(items["sharp"][f"{network}.values"]), kept)
        result[network] = own
    return result


def _config(cfg: VDiffSRConfig) -> SharpConfig:
    if cfg.sharp is None:
        raise ValueError("this model has one end only")
    return cfg.sharp


def _layout(network: str, params: Params, cfg: VDiffSRConfig) -> tuple[Shapes, Shapes]:
    """({parameter: shape} kept in steps, {parameter: shape} kept as they are) of a network, in their order."""
    shapes = {name: tuple(leaf.shape) for name, leaf in own_parts(network, params, cfg).items()}
    stepped = {name: shape for name, shape in shapes.items() if len(shape) > 1 and not _config(cfg).exact}
    return stepped, {name: shape for name, shape in shapes.items() if name not in stepped}


def _split(vector: np.ndarray, shapes: Shapes) -> dict[str, np.ndarray]:
    edges = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(vector[: edges[-1]], edges[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def _two_in_a_byte(steps: np.ndarray) -> np.ndarray:
    nibbles = np.concatenate([steps + 8, np.zeros(steps.size % 2, np.int8)]).astype(np.uint8)
    return nibbles[::2] | (nibbles[1::2] << 4)


def _from_bytes(packed: Any) -> np.ndarray:
    """The steps as float32; of an odd number, one more."""
    packed = np.asarray(packed)
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1).astype(np.float32) - 8


def _float(array: Any) -> np.ndarray:
    return np.asarray(array).astype(np.float32, copy=False)
