"""Networks that come from checkpoints: their configurations are compared before their numbers are read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params, flatten
from vdiffsr_jax.models.vqgan import DECODER
from vdiffsr_jax.training.optim import Flat
from vdiffsr_jax.training.tasks.task import Placement, prefixed
from vdiffsr_jax.weights import checkpoint, storage

Dtypes = Callable[[str], jnp.dtype]  # a parameter's name -> what it is kept in
# {directory: (kind, configuration)} of checkpoints that a run still makes, for whoever prepares the run after it.
_PROMISED: ContextVar[Mapping[str, tuple[str, Any]]] = ContextVar("promised", default=MappingProxyType({}))


@contextlib.contextmanager
def promised(checkpoints: Mapping[str, tuple[str, Any]]) -> Iterator[None]:
    """Within it `network_in` takes these checkpoints, {directory: (kind, configuration)}, as if they were there."""
    token = _PROMISED.set({str(storage.place(directory)): made for directory, made in checkpoints.items()})
    try:
        yield
    finally:
        _PROMISED.reset(token)


def network_in(flag: str, directory: str | None) -> tuple[str, str, Any]:
    """(kind, item, configuration of the network) in the checkpoint that init_from.`flag` names; reads no arrays.

    Raises: ConfigError if it is not given or of a kind that does not hold the network; CheckpointError.
    """
    accepted = kinds.accepted(flag)
    if directory is None:
        raise ConfigError(f"init_from.{flag} is needed: the directory of a {' or '.join(accepted)} checkpoint")
    promise = _PROMISED.get().get(str(storage.place(directory)))
    kind, config = promise or checkpoint.read_config(directory)[:2]
    if kind not in accepted:
        raise ConfigError(f"init_from.{flag}={directory} is a {kind} checkpoint; it must be {' or '.join(accepted)}")
    item = accepted[kind]
    if item not in kinds.item_names(kind, config):
        raise ConfigError(f"init_from.{flag}={directory} has no {item}")
    return kind, item, kinds.described(kind, item, config)


def check_settings(flag: str, have: Any, want: Any, where: str) -> None:
    """Raise ConfigError naming the settings in which a checkpoint differs from the run's configuration."""
    a, b = to_dict(have), to_dict(want)
    wrong = [f"{name}={a[name]} there, {b[name]} here" for name in a if a[name] != b.get(name)]
    if wrong:
        raise ConfigError(f"init_from.{flag} does not fit {where}: {'; '.join(wrong)}")


def check_latents(flag: str, restorer: str, directory: str) -> None:
    """Compare a model's own first stage, if it has one, with the run's as they are stored, before any rounding.

    Raises: ConfigError if encoder or codebook differ: its denoiser would be asked about latents it never saw.
    """
    kind, config, _ = checkpoint.read_config(restorer)
    if storage.place(restorer) == storage.place(directory) or "first_stage" not in kinds.item_names(kind, config):
        return
    item = network_in("first_stage", directory)[1]
    theirs, ours = (
        {name: leaf for name, leaf in flatten(checkpoint.load_lazily(*place)).items() if not name.startswith(DECODER)}
        for place in ((restorer, "first_stage"), (directory, item))
    )
    for name in sorted(theirs.keys() | ours.keys()):
        if name in theirs and name in ours and np.array_equal(theirs[name].read(), ours[name].read()):
            continue
        raise ConfigError(
            f"init_from.{flag}={restorer}: its first stage is not that of init_from.first_stage: {name} differs; "
            f"set init_from.first_stage={restorer}"
        )


def _whole(name: str) -> jnp.dtype:
    return np.dtype(np.float32)


def read(
    flag: str, directory: str, network: str, placement: Placement, *, item: str | None = None, dtype: Dtypes = _whole
) -> Flat:
    """The parameters of one item as those of `network`, placed; `item` replaces the one the flag means."""
    return prefixed(network, read_tree(flag, directory, network, placement, item=item, dtype=dtype))


def read_tree(
    flag: str, directory: str, network: str, placement: Placement, *, item: str | None = None, dtype: Dtypes = _whole
) -> Params:
    """As `read`, as a tree."""
    item = item or network_in(flag, directory)[1]
    model = checkpoint.load_model(
        directory,
        items=[item],
        dtype=lambda name: dtype(f"{network}/{name}"),
        placement=lambda name, leaf: placement(f"{network}/{name}", leaf),
    )
    return model.items[item]


def lazily(flag: str, directory: str | None, *, item: str | None = None) -> Params:
    """One item's parameters as they are stored, each read when it is asked for."""
    return checkpoint.load_lazily(str(directory), item or network_in(flag, directory)[1])
