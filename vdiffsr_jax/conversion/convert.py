"""One weights file to one network's parameters: read, unwrap, recognise, configure, match strictly."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.conversion import perceptual, presets, recognise, shards, var, weights_file
from vdiffsr_jax.conversion.rules import ConversionError, convert_lazily, match
from vdiffsr_jax.conversion.weights_file import StateDict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import Params, flatten, unflatten


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One state dict of a file: `where` it lay in it ("" at the top), the network it is, what was left out of it."""

    path: Path
    where: str
    kind: str
    tensors: StateDict
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.path} ({self.where})" if self.where else str(self.path)


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network out of a file; its parameters are read when they are written. `notes` say what was assumed."""

    kind: str
    config: Any
    params: Params
    source: dict[str, Any]
    notes: list[str]


def parts(path: Path) -> list[Part]:
    """The networks of a file, recognised: one, or two in a file of VAR's own trainer.

    Raises: ConversionError if the file cannot be read or a network is unknown.
    """
    notes: list[str] = []
    found = weights_file.read(path, notes)
    return [
        Part(path, where, recognise.kind_of(tensors, f"{path} ({where})" if where else str(path)), tensors, notes)
        for where, tensors in found.items()
    ]


def with_backbone(found: Sequence[Part], backbone: str) -> list[Part]:
    """The one part that the perceptual distance of this name is made of; DISTS is made of VGG16.

    Raises: ConversionError if there is none.
    """
    trunk = "vgg16" if backbone == "dists" else backbone
    held = {part: _trunk(part) for part in found}
    if trunk not in held.values():
        names = ", ".join(name or part.kind for part, name in held.items())
        raise ConversionError(f"{found[0].path} holds {names}, no {trunk} (--backbone {backbone})")
    return [part for part, name in held.items() if name == trunk]


def _trunk(part: Part) -> str | None:
    if part.kind != "perceptual":
        return None
    return perceptual.infer_backbone({name: tensor.shape for name, tensor in part.tensors.items()})


def configure(part: Part, preset: str | None, settings: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """(configuration, what was assumed): shapes, then the preset, then `settings`, the later before the earlier.

    Raises: ConversionError or ConfigError if the configuration cannot be told or does not fit the shapes.
    """
    name, values = presets.choose(part.kind, part.path, preset)
    presets.check_told(part.kind, part.path, name, settings)
    notes = list(part.notes)
    if name is not None and preset is None:
        notes.append(f"{part.title}: assumed preset {name}, for its file name")
    shapes = {key: tensor.shape for key, tensor in part.tensors.items() if tensor.size}  # an empty one tells nothing
    with _shaped(part):
        return recognise.KINDS[part.kind].infer(shapes, **merge(values, settings)), notes


@contextlib.contextmanager
def _shaped(part: Part) -> Iterator[None]:
    """Inside, shapes are computed with: what that raises where there are too few axes, or too short ones, is told."""
    try:
        yield
    except ExpectedError:
        raise
    except (ValueError, LookupError, ArithmeticError) as error:
        what = recognise.KINDS[part.kind].what
        raise ConversionError(f"{part.title}: its tensors do not have the shapes of a {what}") from error


def doubts(part: Part, config: Any, preset: str | None, settings: Mapping[str, Any]) -> list[str]:
    """Why the file may not be the whole network that it seems to be; none where `settings` state its depth."""
    if part.kind != "var" or "depth" in settings:
        return []
    names = {f"--preset {preset}": preset or "", f"the file name {part.path.name}": shards.stem(part.path)}
    return var.depth_doubts(part.tensors, config, names)


def convert(
    part: Part,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    dtype: Any = np.float32,
    allow_nonfinite: bool = False,
) -> Converted:
    """Every tensor of the part to its place, none missing, none left over.

    Args: settings: of the kind's configuration, in the place of what shapes and preset tell. dtype: of the parameters.
        allow_nonfinite: accept NaN and infinity.
    Raises: ConversionError with every missing, unexpected or misshapen name, with the tensors that are not finite, or
        if the file is in doubt; ConfigError.
    """
    config, notes = configure(part, preset, settings or {})
    if wrong := doubts(part, config, preset, settings or {}):
        raise ConversionError(
            f"{part.title}: {'; '.join(wrong)}. A file that is cut off or renamed looks like this; if it is meant so, "
            f'state the depth: --config with {{"depth": {config.depth}}}'
        )
    with _shaped(part):
        abstract = kinds.network(part.kind, part.kind, config).abstract
    flat = convert_lazily(recognise.KINDS[part.kind].table(config), part.tensors, flatten(abstract), part.title)
    gone = dropped(part, config)
    for reason in dict.fromkeys(gone.values()):
        names = [name for name in gone if gone[name] == reason]
        notes.append(f"{part.title}: dropped {names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}: {reason}")
    if not allow_nonfinite:
        check_finite({name: t.astype(dtype) for name, t in part.tensors.items() if name not in gone}, part.title)
    cast = {name: array.astype(dtype) for name, array in flat.items()}
    dtypes = sorted({str(tensor.dtype) for tensor in flat.values()})
    source = weights_file.source(part.path, part=part.where, kind=part.kind, dtypes=dtypes)
    return Converted(part.kind, config, unflatten(cast, abstract), source, notes)


def check_finite(tensors: StateDict, what: str) -> None:
    """Refuse numbers that are not finite, in the type they are cast to; one tensor at a time is read.

    Raises: ConversionError.
    """
    wrong = []
    for name, tensor in tensors.items():
        if bad := tensor.size - int(np.count_nonzero(np.isfinite(tensor.read()))):
            wrong.append(f"{name} ({bad} of {tensor.size} numbers)")
    if wrong:
        raise ConversionError(
            f"{what}: {len(wrong)} tensors are not finite (NaN or infinity): {', '.join(wrong)}. A run that diverged, "
            "a damaged download or numbers too large for their type look like this; --allow_nonfinite converts it all "
            "the same"
        )


def dropped(part: Part, config: Any) -> dict[str, str]:
    """{name: reason} of the tensors that are left out, or recomputed rather than trusted.

    Names that no rule knows are not in it.
    """
    return match(recognise.KINDS[part.kind].table(config), part.tensors)[0].dropped


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` in the place of `base`, setting by setting within nested mappings."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
