"""From plain mappings to frozen dataclasses and back, every mistake named by its dotted field."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from vdiffsr_jax.config.ranges import Range

T = TypeVar("T")


@runtime_checkable
class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class ExpectedError(Exception):
    """What can go wrong without a fault of the program: the message alone says in one line what, and what to do.

    `exit_code` of a command that ends with it: 2 if it was called the wrong way, 1 if that could not be known.
    """

    exit_code = 2


def first_line(error: BaseException) -> str:
    """What a library says of an error, as far as it has a place in a message of ours."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


class ConfigError(ExpectedError, ValueError):
    """A configuration is wrong; the message names the field and says what to do."""


def check_choice(config: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless the field holds one of the allowed values."""
    if getattr(config, name) not in allowed:
        raise ConfigError(f"{name}={getattr(config, name)!r} must be one of {', '.join(allowed)}")


def parse(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Build the frozen dataclass `cls` from a mapping (dict, ConfigDict or JSON object).

    Lists become tuples, ints become floats where a float is declared, nested mappings become nested dataclasses.
    Floats are finite, tuples of the declared length, and all values in the `Range` of their type.

    Raises: ConfigError naming the dotted field for an unknown name (with the nearest known one), a wrong type, a value
        out of its range or a failed check.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    kwargs = {}
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
            raise ConfigError(f"unknown setting {path + name!r}{hint}")
        kwargs[name] = _coerce(hints[name], value, f"{path}{name}")
    try:
        return cls(**kwargs)
    except TypeError as error:
        raise ConfigError(f"{path.rstrip('.') or cls.__name__}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Inverse of `parse`: plain JSON-ready values, tuples as lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def _coerce(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        value = _coerce(hint.__origin__, value, path)
        for allowed in (extra for extra in hint.__metadata__ if isinstance(extra, Range)):
            if not allowed.holds(value):
                raise ConfigError(f"{path}={value!r} must {allowed.words}")
        return value
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (hint,) = (o for o in options if o is not type(None))
        return _coerce(hint, value, path)
    if dataclasses.is_dataclass(hint):
        if dataclasses.is_dataclass(value):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}={value!r} must be a mapping of {hint.__name__} settings")  # type: ignore[union-attr]
        return parse(hint, value, f"{path}.")  # type: ignore[arg-type]
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{path}={value!r} must be a list")
        items = typing.get_args(hint)
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        if len(value) != len(items):
            raise ConfigError(f"{path}={value!r} must be a list of {len(items)}")
        return tuple(_coerce(item, v, f"{path}[{i}]") for i, (item, v) in enumerate(zip(items, value, strict=True)))
    if origin is dict:
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{path}={value!r} must be of type {hint.__name__}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{path}={value!r} must be finite")
    return value
