"""How a new model takes the place of an old one: beside it first, then named by the configuration, written last.

At every moment the configuration names a folder that is whole. A directory that is written once on a disk has its
networks beside the configuration and appears by one renaming; what replaces it lies in a folder v1, v2, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from etils import epath

from vdiffsr_jax.weights import storage

CONFIG_FILE = "config.json"
FOLDER = "folder"  # the configuration's word for where the networks lie, absent if beside it
_VERSION = re.compile(r"v(\d+)")


def is_free(directory: epath.Path) -> bool:
    """Whether there is nothing, or only what a save to a bucket has left that was killed before its configuration."""
    if not directory.is_dir():
        return not directory.exists()
    inside = list(directory.iterdir())
    return not inside or (storage.is_remote(directory) and all(map(_is_version, inside)))


def place_for_next(directory: epath.Path) -> epath.Path:
    """Where to write: a folder of its own in a bucket, which cannot rename, and beside a model that is there."""
    file = directory / CONFIG_FILE
    if not file.exists():
        return directory / "v1" if storage.is_remote(directory) else directory.with_name(f".{directory.name}.partial")
    found = _VERSION.fullmatch(str(json.loads(file.read_text()).get(FOLDER)))
    return directory / f"v{int(found[1]) + 1 if found else 1}"


def clear(directory: epath.Path, place: epath.Path) -> None:
    """Before writing to `place`: remove what killed saves left, and nothing of the model that is there."""
    if place.exists():
        place.rmtree()
    if directory.exists() and (file := directory / CONFIG_FILE).exists():
        folder = json.loads(file.read_text()).get(FOLDER)
        for path in filter(_is_version, list(directory.iterdir())):
            if path.name != folder:
                path.rmtree()


def publish(directory: epath.Path, place: epath.Path, content: dict[str, object]) -> None:
    """Let the configuration name what was written to `place`."""
    versioned = place.parent == directory
    text = json.dumps(content | ({FOLDER: place.name} if versioned else {}), indent=2) + "\n"
    if versioned:
        storage.write_text(directory / CONFIG_FILE, text)
        return
    (place / CONFIG_FILE).write_text(text)
    if directory.exists():  # empty
        directory.rmdir()
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


def _is_version(path: epath.Path) -> bool:
    """Whether it is a version's folder, not a checkpoint that somebody calls v1."""
    return bool(_VERSION.fullmatch(path.name)) and not (path / CONFIG_FILE).exists()
