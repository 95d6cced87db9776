"""What the loop needs to know of a task: its networks, what of them learns, its gradients, how it is judged."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.config import ConfigError, Dataclass
from vdiffsr_jax.models.build import Network, Params, flatten, unflatten
from vdiffsr_jax.ops.resize import bicubic
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.optim import Flat, Graded, Metrics
from vdiffsr_jax.training.step import AfterUpdate, Batch

Placement = Callable[[str, Any], jax.sharding.Sharding]
M = TypeVar("M", bound=Dataclass)
L = TypeVar("L", bound=Dataclass)
P = ParamSpec("P")
R = TypeVar("R")


class Evaluation(NamedTuple):
    """One held-out batch: the image the model makes, (b, h, w, 3) in [-1, 1], and {metric: (b,)}.

    `shown`: {column: images} that the grid has beside it.
    """

    image: jax.Array
    metrics: dict[str, jax.Array]
    shown: dict[str, jax.Array] | None = None


class Export(NamedTuple):
    """What `checkpoint.save_model` takes."""

    kind: str
    config: Any
    items: dict[str, Params]


class Task(abc.ABC, Generic[M, L]):
    """One network's training. Making one checks the configuration and uses no device.

    `model_config` M, `loss_config` L: the dataclasses of cfg.model and cfg.loss. `networks`: every network by name.
    Parameters are one flat dict, {"network/path": array}, of which `trainable` says what is trained. `shared`: where
    two networks have parameters in common, the beginning of one's names -> that of the others', which alone are in the
    dict as far as they are not trained. `best`: the metric that decides by default, `rising` those of which more is
    better, at single levels too (`accuracy_16`). `sampling_steps`: of what it exports, if that makes pictures of LR
    pictures alone, else 0.
    `after_update`: as in `step.make_train_step`. `notes`: what `load` saw that a person should know.
    """

    model_config: ClassVar[type[Dataclass]]
    loss_config: ClassVar[type[Dataclass]]
    networks: dict[str, Network[Any]]
    best = "psnr_y"
    rising = ("psnr_y", "accuracy")
    sampling_steps = 0
    shared: Mapping[str, str] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    after_update: AfterUpdate | None = None

    def __init__(self, cfg: TrainConfig):
        self.cfg = cfg
        self.model, self.weights = cast(M, cfg.model), cast(L, cfg.loss)
        self.dtype = jnp.dtype(cfg.dtype)

    @abc.abstractmethod
    def load(self, key: jax.Array, placement: Placement) -> Flat:
        """All parameters: from the checkpoints of `init_from`, or fresh from `key`."""

    def is_rising(self, metric: str) -> bool:
        """Whether more of it is better."""
        return re.sub(r"_\d+$", "", metric) in self.rising

    def trainable(self, name: str) -> bool:
        """Whether the parameter is trained."""
        return True

    def group(self, name: str) -> str:
        """Its learning rate's group, one of `optim.GROUPS`."""
        return "base"

    @abc.abstractmethod
    def gradients(self, params: Flat, frozen: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> Graded:
        """({trained parameter: gradient}, {metric: scalar}, among them "loss")."""

    @abc.abstractmethod
    def evaluate(self, flat: Flat, batch: Batch, key: jax.Array) -> Evaluation:
        """The model at work on held-out images."""

    @abc.abstractmethod
    def export(self, flat: Flat) -> Export:
        """The checkpoint that other tasks and `sample.py` read."""

    def stored(self, name: str) -> jnp.dtype:
        """The dtype a parameter is kept in: cfg.frozen_dtype if it is frozen and rounded so before every use anyway.

        Codebooks, phi and norms are used in float32: rounded, they would give other codes.
        """
        network, _, path = name.partition("/")
        dtype = jnp.dtype(self.cfg.frozen_dtype)
        rounded = not self.trainable(name) and self.networks[network].rounded.get(path) == dtype
        return dtype if rounded else jnp.dtype(jnp.float32)

    def originals(self) -> Flat:
        """What `load` read or drew of frozen parameters that `export` takes, unrounded; lazily where it was read."""
        return {}

    def unrounded(self, flat: Flat) -> Flat:
        """`flat` as `export` shall write it: what is stored in fewer digits is taken from where it came from."""
        short = [name for name in flat if self.stored(name) != jnp.float32]
        whole = self.originals() if short else {}
        here: dict[str, Any] = {name: np.asarray(p) if isinstance(p, jax.Array) else p for name, p in whole.items()}
        return flat | {name: here[name].astype(np.float32) for name in short if name in here}

    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        """All parameters as shapes, each in the dtype it is kept in."""
        shapes = {}
        for network, built in self.networks.items():
            for path, leaf in flatten(built.abstract).items():
                name = f"{network}/{path}"
                if self.name_in_flat(name) == name:
                    shapes[name] = jax.ShapeDtypeStruct(leaf.shape, self.stored(name))
        return shapes

    def name_in_flat(self, name: str) -> str:
        """The parameter's own name, or that of the one which it shares."""
        for prefix, other in self.shared.items():
            there = other + name.removeprefix(prefix)
            if name.startswith(prefix) and not self.trainable(there):
                return there
        return name

    def tree(self, network: str, flat: Mapping[str, Any]) -> Params:
        """One network's parameters as the tree that its `apply` takes."""
        like = self.networks[network].abstract
        return unflatten({path: flat[self.name_in_flat(f"{network}/{path}")] for path in flatten(like)}, like)

    def apply(self, network: str, flat: Flat, *args: Any, **kwargs: Any) -> Any:
        """Run one network on its part of `flat`."""
        return self.networks[network].apply(self.tree(network, flat), *args, **kwargs)

    def method(self, network: str, of: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Flat, P], R]:
        """Another method of one network: `self.method("tokenizer", VARTokenizer.encode)(flat, image)`."""
        method = self.networks[network].method(of)

        def run(flat: Flat, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self.tree(network, flat), *args, **kwargs)

        return run

    def fresh(self, network: str, key: jax.Array, placement: Placement) -> Flat:
        """New parameters of one network, made where they shall lie."""
        built = self.networks[network]
        shardings = {
            f"{network}/{path}": placement(f"{network}/{path}", leaf) for path, leaf in flatten(built.abstract).items()
        }

        def init(key: jax.Array) -> Flat:
            return prefixed(network, built.init(key))

        # It runs once, so on a CPU half of the time went into optimising it.
        quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        made: Flat = jax.jit(init, out_shardings=shardings, compiler_options=quick)(key)
        return made


class LossTask(Task[M, L]):
    """A task whose gradients are those of one scalar."""

    @abc.abstractmethod
    def loss(self, flat: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[jax.Array, Metrics]:
        """The scalar that is minimised and its parts, from all parameters."""

    def gradients(self, params: Flat, frozen: Flat, batch: Batch, key: jax.Array, step: jax.Array) -> Graded:
        def scalar(params: Flat) -> tuple[jax.Array, Metrics]:
            return self.loss(params | frozen, batch, key, step)

        (loss, parts), grads = jax.value_and_grad(scalar, has_aux=True)(params)
        return grads, {**parts, "loss": loss}


def upsampled(batch: Batch) -> jax.Array:
    """LR at HR's size, as the model itself does it: what the first stage and the prior see."""
    height, width = batch["hr"].shape[1:3]
    return bicubic(batch["lr"], (height, width))


def prefixed(network: str, params: Params) -> Flat:
    """A tree's parameters under the names that training uses."""
    return {f"{network}/{path}": leaf for path, leaf in flatten(params).items()}


def refuse_if(condition: bool, message: str) -> None:
    """Raise ConfigError(message) if the condition holds."""
    if condition:
        raise ConfigError(message)
