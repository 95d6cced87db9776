"""Folders against folders: results of any method beside their HR pictures, matched by name, nothing resized."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from vdiffsr_jax.evaluation.cases import LEAST, Case, Cases
from vdiffsr_jax.photos.photo import ImageError
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling.files import UsageError, by_stem

SCALE = 4
Failed = Callable[[str, str, str], None]  # name, what kind of fault, why
Result = Callable[[Case], np.ndarray]  # a method's picture of a case


class PairError(ImageError):
    """A picture cannot be compared; `kind` is for counting."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def parse_folders(texts: list[str], *, flag: str = "--pairs", taken: tuple[str, ...] = ()) -> dict[str, str]:
    """{name: folder} of NAME=FOLDER.

    Raises: UsageError for one without a name, or with a name that is there already.
    """
    folders: dict[str, str] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise UsageError(f"{flag} {text}: write NAME=FOLDER")
        if name in folders or name in taken:
            raise UsageError(f"{flag} {text}: there is a row {name!r} already")
        folders[name] = folder
    return folders


def read_results(hr: str, folders: Mapping[str, str], failed: Failed) -> tuple[Cases, dict[str, Result]]:
    """HR pictures that every folder has a fitting result of, and those results; `failed` is told of all others.

    Raises: UsageError if a folder is not there or empty.
    """
    files = {"HR": by_stem(hr), **{name: by_stem(folder) for name, folder in folders.items()}}

    def look(stem: str) -> None:
        truth = read_plain(_only(files["HR"], stem, "HR"))
        _check_least(truth)
        for method in folders:
            result = read_plain(_only(files[method], stem, method))
            if result.shape != truth.shape:
                raise PairError("other size", f"is {_size(result)} in {method} and {_size(truth)} in HR")

    names = usable(sorted(set().union(*files.values())), look, failed)
    text = f"{len(names)} pictures of {hr}, compared whole."
    cases = Cases(names, lambda stem: Case(stem, read_plain(files["HR"][stem][0])), text, has_lr=False)

    def result(method: str, case: Case) -> np.ndarray:
        return read_plain(files[method][case.name][0])

    return cases, {method: functools.partial(result, method) for method in folders}


def read_whole(hr: str, lr: str, failed: Failed) -> Cases:
    """Whole HR pictures with the LR pictures of their names, a quarter of their size; `failed` is told of all others.

    Raises: UsageError if a folder is not there or empty.
    """
    above, below = by_stem(hr), by_stem(lr)

    def load(stem: str) -> Case:
        return Case(stem, read_plain(_only(above, stem, "HR")), read_plain(_only(below, stem, "LR")))

    def look(stem: str) -> None:
        case = load(stem)
        if case.hr.shape[:2] != tuple(SCALE * n for n in case.given.shape[:2]):
            raise PairError("other size", f"is {_size(case.hr)} but its LR {_size(case.given)}, not a quarter")
        _check_least(case.hr)

    names = usable(sorted({*above, *below}), look, failed)
    return Cases(names, load, f"{len(names)} pictures of {hr}, whole, with the LR pictures of {lr}.")


def usable(names: Iterable[str], look: Callable[[str], None], failed: Failed, kind: str = "unreadable") -> list[str]:
    """The pictures that `look` takes; `failed` is told of those that it raises ImageError of, or memory ends at.

    Args: kind: of a fault that does not say itself what kind it is.
    """
    kept = []
    for name in names:
        try:
            look(name)
            kept.append(name)
        except (ImageError, MemoryError) as error:
            failed(name, getattr(error, "kind", kind), str(error) or "needs more memory than this machine has")
    return kept


def read_plain(path: Path) -> np.ndarray:
    """A picture as published tables take them: 8-bit RGB, (h, w, 3) uint8.

    Raises: PairError for 16 bits and for grey, ImageError if it cannot be read.
    """
    photo = read(path, max_pixels=None)
    if photo.depth == 16:
        raise PairError("16-bit", f"{path} has 16 bits; these scores are of 8-bit pictures, convert it first")
    if photo.grey:
        raise PairError("grey", f"{path} is grey; these scores are of RGB pictures, convert it first")
    return photo.color


def _only(files: Mapping[str, list[Path]], stem: str, folder: str) -> Path:
    found = files.get(stem, [])
    if len(found) != 1:
        kind = "missing" if not found else "several"
        raise PairError(kind, f"is not in {folder}" if not found else f"is there {len(found)} times in {folder}")
    return found[0]


def _check_least(hr: np.ndarray) -> None:
    if min(hr.shape[:2]) < LEAST:
        raise PairError("too small", f"is {_size(hr)}; at least {LEAST} pixels a side can be compared")


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
