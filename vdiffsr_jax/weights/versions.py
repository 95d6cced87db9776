"""How a new model takes the place of an old one: beside it first, then named by the configuration, written last.

At every moment the configuration names a folder that is whole. A directory that a save makes on a disk has its
networks beside the configuration and appears by one renaming; what is written into one that is there lies in a folder
v1, v2, ... Who changes a directory holds `whole.alone`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable

from etils import epath

from vdiffsr_jax.weights import storage, whole

CONFIG_FILE = "config.json"
FOLDER = "folder"  # the configuration's word for where the networks lie, absent if beside it
_VERSION = re.compile(r"v(\d+)")


def is_free(directory: epath.Path) -> bool:
    """Whether there is nothing, or only what a save has left that was killed before its configuration."""
    if not directory.is_dir():
        return not directory.exists() and not os.path.lexists(directory)  # a link may lead nowhere
    inside = [path for path in directory.iterdir() if not whole.is_left(path)]
    begun = storage.is_remote(directory) or (directory / whole.LOCK).exists()
    return not inside or (begun and all(map(_is_version, inside)))


def next_number(directory: epath.Path) -> int:
    """Of the next version: 0 beside a directory that is not there yet; else N of a folder vN in it, since neither a
    bucket nor a mounted folder can be renamed, nor a model that is there be touched."""
    if (named := _named(directory)) is None:
        return int(storage.is_remote(directory) or directory.exists())
    found = _VERSION.fullmatch(named)
    return int(found[1]) + 1 if found else 1


def place(directory: epath.Path, number: int) -> epath.Path:
    """Where to write the version of this number."""
    return directory / f"v{number}" if number else directory.with_name(f".{directory.name}.partial")


def clear(directory: epath.Path, place: epath.Path) -> None:
    """Remove `place` and what else saves have left that did not end, but nothing of the model that is there."""
    named = _named(directory)
    left = [] if named is None else list(filter(_is_version, directory.iterdir()))
    for path in {place, *left}:
        if path.name != named and path.exists():
            _remove(path)


def publish(directory: epath.Path, place: epath.Path, content: dict[str, object]) -> None:
    """Let the configuration name what was written to `place`."""
    versioned = place.parent == directory
    text = json.dumps(content | ({FOLDER: place.name} if versioned else {}), indent=2) + "\n"
    if versioned:
        storage.write_text(directory / CONFIG_FILE, text)
        return
    (place / CONFIG_FILE).write_text(text)
    place.rename(directory)


def drop_old(directory: epath.Path, place: epath.Path, networks: Iterable[epath.Path]) -> None:
    """After everybody knows the new version: remove all others, and the networks of the old one beside it."""
    if place.parent == directory:
        versions = [path for path in directory.iterdir() if _is_version(path) and path != place]
        for path in {*versions, *networks}:
            if path.is_dir():
                path.rmtree()
            else:
                path.unlink(missing_ok=True)


def _named(directory: epath.Path) -> str | None:
    """The folder of the model that is there, "" if its networks lie beside its configuration; None without a model."""
    file = directory / CONFIG_FILE
    return str(json.loads(file.read_text()).get(FOLDER) or "") if file.exists() else None


def _remove(folder: epath.Path) -> None:
    """Also where writes of a failed save, which orbax leaves behind, end meanwhile and fill it again."""
    for pause in (0.05, 0.2, 1):
        try:
            folder.rmtree()
            return
        except OSError:
            time.sleep(pause)
    folder.rmtree()


def _is_version(path: epath.Path) -> bool:
    """Whether it is a version's folder, not a checkpoint that somebody calls v1."""
    return bool(_VERSION.fullmatch(path.name)) and not (path / CONFIG_FILE).exists()
