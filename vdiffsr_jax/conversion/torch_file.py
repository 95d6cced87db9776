"""Files of torch.save (.pth, .pt, .ckpt, .bin) without PyTorch, of both its formats; tensors are read one at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vdiffsr_jax.conversion import file_kind, torch_legacy, torch_zip
from vdiffsr_jax.conversion.pickle_reader import PickleError, RefusedError
from vdiffsr_jax.weights.lazy_array import WeightsFileError, reading


def read(path: str | os.PathLike[str]) -> Any:
    """What was saved: nested dicts, lists and tuples of numbers, strings and LazyArrays.

    Namespaces, defaultdicts, numpy arrays and paths beside them are Opaque: never built, only named.
    Raises: WeightsFileError if it is no file of torch.save, damaged, compressed, or holds anything else.
    """
    path = Path(path)
    kind = file_kind.recognise(path)
    if kind not in ("torch_zip", "torch_legacy"):
        what = "bare pickle" if kind == "pickle" else f"{kind} file"
        raise WeightsFileError(f"{path} is a {what}, not a file of torch.save")
    with reading(path), path.open("rb") as file:
        try:
            return (torch_zip if kind == "torch_zip" else torch_legacy).load(path, file)
        except PickleError as error:
            remedy = f". {_remedy(path, error)}" if isinstance(error, RefusedError) else ""
            raise WeightsFileError(f"{path}: {error}{remedy}") from None


def _remedy(path: Path, error: RefusedError) -> str:
    if error.dangerous:
        return "No weights need this: whoever made the file may mean harm, do not open it with PyTorch either"
    return (
        "If you trust who made it (this line runs what is in the file), resave it where PyTorch is installed: "
        f"{file_kind.resaving(path.name)}"
    )
