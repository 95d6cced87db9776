"""The list of what was written, in the output folder: own results are never inputs, and a stopped batch goes on.

A line of JSON for each file, added just before the file appears. Lines are added whole and never changed, so several
runs may share a folder; a line that was torn by a crash is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdiffsr_jax.weights import storage

PREFIX, SUFFIX = ".vdiffsr_results", ".jsonl"
_BLOCK = 1 << 20

Work = Mapping[str, Any]
"""What a result depends on besides its input: settings and model, as plain values."""


class ResultList:
    """The results in a folder and below; `process`: of several that write there at once, each has its own file."""

    def __init__(self, folder: Path, process: int | None = None) -> None:
        self._folder = folder
        self._file = folder / (PREFIX + ("" if process is None else f"_{process}") + SUFFIX)
        self._entries: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(folder.glob(f"{PREFIX}*{SUFFIX}")) if folder.is_dir() else ():
            for line in file.read_bytes().splitlines():
                self._remember(line)

    def _remember(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            self._entries.setdefault(entry["result"], []).append(entry)
        except (ValueError, KeyError, TypeError):  # torn
            return

    def holds(self, path: Path) -> bool:
        """Whether the file was written from here and is unchanged."""
        return any(_is(path, entry) for entry in self._of(path))

    def is_done(self, source: Path, target: Path, work: Work) -> bool:
        """Whether the target is the result of this very input, by the same settings and model."""
        return any(
            entry.get("input") == _input(source) and entry.get("work") == work and _is(target, entry)
            for entry in self._of(target)
        )

    def adding(self, target: Path, source: Path, work: Work) -> Callable[[Path], None]:
        """What to call with the whole file just before it becomes the target."""
        told = {"result": self._name(target), "input": _input(source), "work": work}

        def add(file: Path) -> None:
            status = file.stat()
            entry = told | {"size": status.st_size, "time": status.st_mtime_ns, "crc": _crc(file)}
            # The empty line before parts it from one that was torn.
            line = b"\n" + json.dumps(entry).encode() + b"\n"
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
            self._remember(line)

        return add

    def _of(self, path: Path) -> list[dict[str, Any]]:
        return self._entries.get(self._name(path), []) if self._entries else []

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(self._folder))).as_posix()


def own_results(output: ResultList) -> Callable[[Path, Path], bool]:
    """(file, folder that a person named) -> whether the file is a result: of `output`, or by a list that lies in a
    folder below the named one. (Naming a folder of results asks for them.)
    """
    lists: dict[Path, ResultList] = {}

    def is_own(path: Path, named: Path) -> bool:
        if output.holds(path):
            return True
        below = path.parents[: path.parents.index(named)] if named in path.parents else ()
        for folder in below:
            if folder not in lists:
                lists[folder] = ResultList(folder)
            if lists[folder].holds(path):
                return True
        return False

    return is_own


def _input(path: Path) -> list[Any]:
    status = path.stat()
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    """The same size and time; or, as after copying a folder, the same size and content."""
    try:
        status = path.stat()
        if status.st_size != entry["size"]:
            return False
        return bool(status.st_mtime_ns == entry["time"] or _crc(path) == entry["crc"])
    except (OSError, KeyError):
        return False


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value


def fingerprint(directory: str | os.PathLike[str]) -> str:
    """What tells one checkpoint from another without its weights: its configuration, its files' sizes and times.

    Raises: ConfigError if it is in a bucket that cannot be opened.
    """
    place = storage.place(directory)
    digest = hashlib.sha256()
    folders = [place] if place.is_dir() else []
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            if entry.is_dir():
                folders.append(entry)
                continue
            status = entry.stat()
            digest.update(f"{entry.relative_to(place)} {status.length} {status.mtime}\n".encode())
            if entry.name == "config.json":
                digest.update(entry.read_bytes())
    return digest.hexdigest()[:16]
