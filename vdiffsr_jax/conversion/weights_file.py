"""A weights file of any format, and the layers that trainers wrap around a state dict."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from vdiffsr_jax.conversion import file_kind, nested, npz_file, numpy_pickle, package_file, shards, torch_file
from vdiffsr_jax.conversion.pickle_reader import Opaque, PickleError
from vdiffsr_jax.weights import safetensors_file
from vdiffsr_jax.weights.lazy_array import LazyArray, WeightsFileError

StateDict = dict[str, LazyArray]

# In this order: averaged weights are what the authors publish and sample with.
_WRAPPERS = (
    *("params_ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "ema"),
    *("params", "state_dict", "model_state_dict", "model", "net"),
)
_VAR_TRAINER = {"var": "var_wo_ddp", "tokenizer": "vae_local"}
_PREFIXES = ("module.", "_orig_mod.")
_DEPTH = 4  # wrappers inside wrappers


def read(path: str | os.PathLike[str], notes: list[str] | None = None) -> dict[str, StateDict]:
    """The state dicts of a file, {where they were in it: tensors by their bare names}; "" for a plain one.

    What the file is shows in its content; the shards of one network are read together. VAR's own trainer keeps two
    state dicts, "var" and "tokenizer", a package as many as it ships. Prefixes of data parallelism and compilation are
    taken off.
    Args: notes: gets a line for what was chosen or left out.
    Raises: WeightsFileError if the file cannot be read or holds no tensors.
    """
    path = Path(path)
    notes = [] if notes is None else notes
    if package_file.is_package(path):
        inside = package_file.read(path)
        return {name if len(inside) > 1 else "": _bare(path, state, notes) for name, state in inside.items()}
    files = shards.files(path)
    if len(files) == 1:
        content = _content(files[0])
        try:
            return _unwrap(path, content, notes)
        except PickleError as error:
            raise WeightsFileError(f"{path}: {error}") from None
    whole: dict[Any, Any] = {}
    for file in files:
        content = _content(file)
        if not isinstance(content, dict):
            raise WeightsFileError(f"{file} is no shard: it holds a {_type(content)}, not a dictionary of tensors")
        if twice := whole.keys() & content.keys():
            raise WeightsFileError(f"{file} is no shard: {min(map(str, twice))} is in another too")
        whole |= content
    shards.check(path, set(whole))
    notes.append(f"{path}: read with the {len(files)} files it belongs to")
    return {"": _bare(path, whole, notes)}


def _content(path: Path) -> Any:
    kind = file_kind.recognise(path)
    if kind == "safetensors":
        return safetensors_file.read(path)
    if kind == "npz":
        return npz_file.read(path)
    if kind == "pickle":
        try:
            return numpy_pickle.read(path.read_bytes())
        except PickleError as error:
            raise WeightsFileError(f"{path} is a pickle of no torch.save, and not of numpy arrays: {error}") from None
    return torch_file.read(path)


def _unwrap(path: Path, content: Any, notes: list[str]) -> dict[str, StateDict]:
    if not isinstance(content, dict):
        raise WeightsFileError(f"{path} holds a {_type(content)}, not a dictionary of tensors")
    trainer = content.get("trainer")
    if isinstance(trainer, dict):
        found = {
            ours: trainer[theirs] for ours, theirs in _VAR_TRAINER.items() if isinstance(trainer.get(theirs), dict)
        }
        if found:
            return {name: _bare(path, state, notes) for name, state in found.items()}
    where: list[str] = []
    while len(where) < _DEPTH and (inside := _wrapped(content)):
        if len(inside) > 1:
            notes.append(f"{path}: took {inside[0]}, left {', '.join(inside[1:])}")
        where.append(inside[0])
        content = content[inside[0]]
    return {".".join(where): _bare(path, content, notes)}


def _wrapped(content: dict[Any, Any]) -> list[str]:
    """The known wrappers in a dictionary that holds no tensors itself, the one to take first.

    Of unknown ones a single dictionary of named tensors is taken.
    """
    if any(isinstance(value, LazyArray) for value in content.values()):
        return []
    known = [name for name in _WRAPPERS if isinstance(content.get(name), dict) and _holds_tensors(content[name])]
    if known:
        return known
    named = [
        key
        for key, value in content.items()
        if isinstance(key, str)
        and isinstance(value, dict)
        and any(isinstance(name, str) and isinstance(inner, LazyArray) for name, inner in value.items())
    ]
    return named if len(named) == 1 else []


def _holds_tensors(content: dict[Any, Any]) -> bool:
    return any(isinstance(value, LazyArray) for _, value in nested.leaves(content))


def _type(value: Any) -> str:
    return value.name if isinstance(value, Opaque) else type(value).__name__


def _bare(path: Path, state: dict[Any, Any], notes: list[str]) -> StateDict:
    result: StateDict = {}
    for key, value in state.items():
        if isinstance(key, str) and isinstance(value, Opaque):
            notes.append(f"{path}: left out {key}, a {value.name}")
            continue
        if not isinstance(key, str) or not isinstance(value, LazyArray):
            what = "holds no state dict" if not any(isinstance(v, LazyArray) for v in state.values()) else "is mixed"
            raise WeightsFileError(
                f"{path} {what}: {key!r} is a {_type(value)}, not a tensor. "
                f"Known layers: trainer, {', '.join(_WRAPPERS)}; found: {', '.join(map(str, list(state)[:8]))}. "
                f"To keep the tensors alone, where PyTorch is installed and the file is trusted: "
                f"{file_kind.resaving(path.name)}"
            )
        name = key
        while name.startswith(_PREFIXES):
            name = name.split(".", 1)[1]
        if name in result:
            raise WeightsFileError(f"{path} holds {name} twice, with and without a prefix")
        result[name] = value
    if not result:
        raise WeightsFileError(f"{path} holds no tensors")
    return result


def source(path: str | os.PathLike[str], **more: Any) -> dict[str, Any]:
    """What a checkpoint remembers of a file: its name and the SHA-256 of its bytes, of all shards one after another."""
    digest = hashlib.sha256()
    path = Path(path)
    for part in [path] if package_file.is_package(path) else shards.files(path):
        with part.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return {"file": path.name, "sha256": digest.hexdigest(), **more}
