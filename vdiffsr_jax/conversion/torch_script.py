"""TorchScript archives (torch.jit.save): a program is never run, its modules are read as what their attributes hold."""

from __future__ import annotations

from typing import Any

from vdiffsr_jax.conversion import nested
from vdiffsr_jax.conversion.pickle_reader import Global, Opaque, PickleError
from vdiffsr_jax.weights.lazy_array import LazyArray

_PREFIX = "__torch__."
_LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")}


class Module(dict[str, Any]):
    """Attributes of an instance of a class that the archive brings along; the class is never made."""


class WithModules(dict[str, Global]):
    """A reader's table in which every class of the program stands for `Module`, and typed lists are left out."""

    def get(self, name: str, default: Any = None) -> Any:
        """The table's own name, or a class of the program."""
        if name.startswith(_PREFIX):
            return Global(name, new=_module)
        if name in _LISTS:
            return Global(name, make=lambda arguments: Opaque(name))
        return super().get(name, default)


def _module(arguments: tuple[Any, ...]) -> Module:
    if arguments:
        raise PickleError("a module of the TorchScript program is damaged")
    return Module()


def set_attributes(module: Module, state: Any) -> Module:
    """A module with what the pickle sets. Raises: PickleError if that is no dictionary."""
    if not isinstance(state, dict):
        raise PickleError("the attributes of a TorchScript module are damaged")
    module.update(state)
    return module


def tensors(program: Any) -> dict[str, LazyArray]:
    """The state dict of a program: its tensors under the dotted names of their modules; all else is left out.

    Raises: PickleError if it is no module, or modules hold one another without end, or again and again.
    """
    if not isinstance(program, Module):
        raise PickleError("the TorchScript archive holds no module")
    found = nested.leaves(program, Module)
    return {".".join(map(str, names)): value for names, value in found if isinstance(value, LazyArray)}
