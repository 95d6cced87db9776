"""A weights file of any format, and the layers that trainers wrap around a state dict."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from vdiffsr_jax.conversion import package_file, safetensors_file, torch_file, torch_legacy
from vdiffsr_jax.conversion.rules import WeightsFileError
from vdiffsr_jax.weights.lazy_array import LazyArray

StateDict = dict[str, LazyArray]

# In this order: averaged weights are what the authors publish and sample with.
_WRAPPERS = ("params_ema", "params", "state_dict")
_VAR_TRAINER = {"var": "var_wo_ddp", "tokenizer": "vae_local"}
_PREFIXES = ("module.", "_orig_mod.")


def read(path: str | os.PathLike[str]) -> dict[str, StateDict]:
    """The state dicts of a file, {where they were in it: tensors by their bare names}; "" for a plain one.

    VAR's own trainer keeps two, "var" and "tokenizer", a package as many as it ships. Prefixes of data parallelism and
    compilation are taken off.
    Raises: WeightsFileError if the file cannot be read or holds no tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return {"": _bare(path, safetensors_file.read(path))}
    if package_file.is_package(path):
        inside = package_file.read(path)
        return {name if len(inside) > 1 else "": _bare(path, state) for name, state in inside.items()}
    content = package_file.pickled(path.read_bytes(), str(path)) if _is_pickle(path) else torch_file.read(path)
    if not isinstance(content, dict):
        raise WeightsFileError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    trainer = content.get("trainer")
    if isinstance(trainer, dict):
        found = {
            ours: trainer[theirs] for ours, theirs in _VAR_TRAINER.items() if isinstance(trainer.get(theirs), dict)
        }
        if found:
            return {name: _bare(path, state) for name, state in found.items()}
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            return {wrapper: _bare(path, content[wrapper])}
    return {"": _bare(path, content)}


def _is_pickle(path: Path) -> bool:
    """Whether it begins as a pickle: PyTorch's old format, or numpy arrays; torch_file has its words for the rest."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) == torch_legacy.MAGIC[:1]


def _bare(path: Path, state: dict[Any, Any]) -> StateDict:
    result: StateDict = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, LazyArray):
            what = "holds no state dict" if not any(isinstance(v, LazyArray) for v in state.values()) else "is mixed"
            raise WeightsFileError(
                f"{path} {what}: {key!r} is a {type(value).__name__}, not a tensor. "
                f"Known layers: trainer, {', '.join(_WRAPPERS)}; found: {', '.join(map(str, list(state)[:8]))}"
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
    """What a checkpoint remembers of a file: its name and SHA-256."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": Path(path).name, "sha256": digest, **more}
