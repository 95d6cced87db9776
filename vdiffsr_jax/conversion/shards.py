"""Weights in several files: NAME-00001-of-00003.safetensors (or .bin), and the index that says what lies where."""

from __future__ import annotations

import re
from pathlib import Path

from vdiffsr_jax.conversion import file_kind
from vdiffsr_jax.weights import json_object
from vdiffsr_jax.weights.lazy_array import WeightsFileError

_SHARD = re.compile(r"(?P<name>.+)-(?P<i>\d{5})-of-(?P<n>\d{5})(?P<suffix>\.\w+)")
_MAX_INDEX = 100_000_000  # bytes


def files(path: Path) -> list[Path]:
    """All the files that the weights of `path` lie in: itself, or the shards it belongs to or is the index of.

    Raises: WeightsFileError if it is no weights file, or naming the shards that are missing.
    """
    if file_kind.recognise(path) == "json":
        return sorted({path.with_name(name) for name in _index(path).values()})
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["n"])
    names = [f"{match['name']}-{i:05}-of-{match['n']}{match['suffix']}" for i in range(1, count + 1)]
    found = [path.with_name(name) for name in names]
    if missing := [shard.name for shard in found if not shard.is_file()]:
        raise WeightsFileError(
            f"{path} is one of {count} files that hold the weights together; beside it {len(missing)} are missing: "
            f"{', '.join(missing[:4])}. Download them into {path.parent}"
        )
    return found


def check(path: Path, names: set[str]) -> None:
    """Compare the tensors that were found with the index, where there is one.

    Raises: WeightsFileError naming the first tensors that differ.
    """
    match = _SHARD.fullmatch(path.name)
    index = path if match is None else path.with_name(f"{match['name']}{match['suffix']}.index.json")
    if index.is_file() and file_kind.recognise(index) == "json" and (wrong := names ^ _index(index).keys()):
        raise WeightsFileError(
            f"{index} and the files it names differ in {len(wrong)} tensors: {', '.join(sorted(wrong)[:4])}"
        )


def stem(path: Path) -> str:
    """The file's name without suffix and shard number: what it is a name of."""
    match = _SHARD.fullmatch(path.name)
    return match["name"] if match else path.name.removesuffix(".index.json").rpartition(".")[0] or path.name


def _index(path: Path) -> dict[str, str]:
    """{tensor: file beside the index}."""
    try:
        if path.stat().st_size > _MAX_INDEX:
            raise ValueError("too large")
        places = json_object.read(path).get("weight_map")
    except ValueError as error:
        raise WeightsFileError(f"{path} is no weights file but JSON, and damaged ({error})") from None
    if not isinstance(places, dict) or not places:
        raise WeightsFileError(
            f"{path} is a JSON file (settings?), neither weights nor an index of shards (it has no weight_map)"
        )
    for name in places.values():
        if not isinstance(name, str) or not name or Path(name).name != name or "\\" in name:
            raise WeightsFileError(f"{path} refers to {name!r}, which is no file beside it: refused")
        if not path.with_name(name).is_file():
            raise WeightsFileError(
                f"{path} is the index of shards, and {name} is not beside it: download all of them into {path.parent}"
            )
    return places
