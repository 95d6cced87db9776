"""Reads a pickle without running it: a small machine that only ever builds numbers, strings and plain containers.

A global in a pickle is a name to look up and call. Here it stays a name, and one that is not in the reader's own table
ends the reading. So there is nothing a hostile file could reach: no import, no call of anything foreign, no attribute.
"""

from __future__ import annotations

import dataclasses
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any

from vdiffsr_jax.weights.lazy_array import WeightsFileError


class PickleError(WeightsFileError):
    """The pickle is damaged or asks for something that is never built."""


class RefusedError(PickleError):
    """The pickle asks for something that is no part of weights; `dangerous` if it could run anything at all."""

    dangerous = False


@dataclasses.dataclass(frozen=True)
class Global:
    """An allowed name: `make(arguments)` builds its value, after checking them; None if it is only ever a marker.

    `new` does so where the pickle makes an instance instead of calling the name.
    """

    name: str
    make: Callable[[tuple[Any, ...]], Any] | None = None
    new: Callable[[tuple[Any, ...]], Any] | None = None


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Stands where the pickle has a value of this name, which is never built; what it would hold is read and left."""

    name: str


Persistent = Callable[[Any], Any]  # makes what a persistent id stands for
Attributes = Callable[[Any, Any], Any]  # (object, state) -> object, where the pickle sets attributes
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_LITERALS = _NUMBERS | _TEXTS | _BYTES
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_MARK = object()
# Tuples are no keys: hashing one that holds itself many times over takes exponential time.
_KEYS = (str, int, float, bytes, type(None))
# Whoever may call into these may do anything.
_DANGEROUS = re.compile(
    r"(os|posix|nt|sys|subprocess|commands|importlib|runpy|pty|socket|shutil|ctypes|code|pickle|marshal|webbrowser)\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|file|getattr|setattr|apply|__import__|input|globals)"
)


def load(data: Any, table: Mapping[str, Global], *, persistent: Persistent, attributes: Attributes) -> Any:
    """The value a pickle describes.

    Args: data: bytes, or a stream, which is left behind the pickle's end. table: {"module.name": Global}.
    Raises: PickleError naming the global, or the operation, that is refused.
    """
    machine = _Machine(table, persistent, attributes)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
    except WeightsFileError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PickleError(f"the pickle is damaged ({error})") from None
    if len(machine.stack) != 1:
        raise PickleError("the pickle is damaged (it ends with more than one value)")
    return machine.stack[0]


class _Machine:
    def __init__(self, table: Mapping[str, Global], persistent: Persistent, attributes: Attributes):
        self.table, self.persistent, self.attributes = table, persistent, attributes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, op: str, argument: Any) -> None:
        """What one operation does. Raises: as `load`, or what damage leads to (ValueError, IndexError, KeyError)."""
        stack = self.stack
        match op:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                self.top()
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.pop_mark()
            case "DUP":
                stack.append(self.top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case _ if op in _LITERALS:
                stack.append(argument)
            case _ if op in _CONSTANTS:
                stack.append(_CONSTANTS[op])
            case _ if op in _EMPTY:
                stack.append(_EMPTY[op]())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(reversed([self.pop() for _ in range(int(op[-1]))])))
            case "TUPLE":
                stack.append(tuple(self.pop_mark()))
            case "LIST":
                stack.append(self.pop_mark())
            case "DICT":
                items = self.pop_mark()
                stack.append({})
                self.set_items(items)
            case "FROZENSET":
                stack.append(frozenset(map(_key, self.pop_mark())))
            case "APPEND":
                item = self.pop()
                self.container(list).append(item)
            case "APPENDS":
                items = self.pop_mark()
                self.container(list).extend(items)
            case "ADDITEMS":
                items = self.pop_mark()
                self.container(set).update(map(_key, items))
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.set_items([key, value])
            case "SETITEMS":
                self.set_items(self.pop_mark())
            case "BINPERSID":
                stack.append(self.persistent(self.pop()))
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                stack.append(self.look_up(module, name))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                if not isinstance(name, str) or not isinstance(module, str):
                    raise ValueError("the name of a global is no string")
                stack.append(self.look_up(module, name))
            case "INST":
                module, _, name = argument.partition(" ")
                raise _refused(module, name)
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                if not isinstance(function, Global) or function.make is None or not isinstance(arguments, tuple):
                    raise RefusedError(f"the pickle calls {_name(function)}: refused")
                stack.append(function.make(arguments))
            case "NEWOBJ":
                arguments, function = self.pop(), self.pop()
                if not isinstance(function, Global) or function.new is None or not isinstance(arguments, tuple):
                    raise RefusedError(f"the pickle makes an instance of {_name(function)} (NEWOBJ): refused")
                stack.append(function.new(arguments))
            case "BUILD":
                state = self.pop()
                stack.append(self.attributes(self.pop(), state))
            case _:
                raise RefusedError(f"the pickle uses {op} {argument or ''}".rstrip() + ", which is refused")

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise ValueError("a value is missing")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def pop_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError("a mark is missing")

    def look_up(self, module: str, name: str) -> Global:
        found = self.table.get(f"{module}.{name}")
        if found is None:
            raise _refused(module, name)
        return found

    def container(self, kind: type) -> Any:
        if type(self.top()) is not kind:
            raise ValueError(f"a {kind.__name__} is missing")
        return self.top()

    def set_items(self, items: list[Any]) -> None:
        target = {} if self.top() == Opaque("collections.defaultdict") else self.container(dict)
        if len(items) % 2:
            raise ValueError("a key has no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value


def _key(key: Any) -> Any:
    if not isinstance(key, _KEYS):
        raise PickleError(f"the pickle has a {type(key).__name__} as a key: refused")
    return key


def _name(function: Any) -> str:
    return getattr(function, "name", type(function).__name__)


def _refused(module: str, name: str) -> RefusedError:
    error = RefusedError(
        f"the pickle asks for {module}.{name}: refused, nothing of it was run. "
        "Only tensors, numbers, strings and plain containers are read"
    )
    error.dangerous = _DANGEROUS.fullmatch(f"{module}.{name}") is not None
    return error
