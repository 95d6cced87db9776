"""The list of what was written, in the output folder: own results are never inputs, and a stopped batch goes on.

A line of JSON for each file, added just before the file appears. Lines are added whole and never changed, so several
runs may share a folder; a line that was torn by a crash is passed over. In a bucket, where no object grows, each run
writes lists of its own, one part after the other.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from vdiffsr_jax.weights import storage

PREFIX, SUFFIX = ".vdiffsr_results", ".jsonl"
_BLOCK = 1 << 20
_PART = 1 << 15  # bytes of a list in a bucket: so much is written again for each result

Work = Mapping[str, Any]
"""What a result depends on besides its input: settings and model, as plain values."""


class ResultList:
    """The results in a folder and below; `process`: of several that write there at once, each has its own file."""

    def __init__(self, folder: Path, process: int | None = None) -> None:
        self._folder = folder
        self._file = folder / (PREFIX + ("" if process is None else f"_{process}") + SUFFIX)
        self._run, self._number, self._part = uuid.uuid4().hex[:12], 0, b""  # used in a bucket
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
            self._append(line)
            self._remember(line)

        return add

    def _append(self, line: bytes) -> None:
        if storage.is_remote(self._folder):
            self._part += line
            (self._folder / f"{PREFIX}_{self._run}_{self._number:05d}{SUFFIX}").write_bytes(self._part)
            if len(self._part) > _PART:
                self._number, self._part = self._number + 1, b""
            return
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _of(self, path: Path) -> list[dict[str, Any]]:
        return self._entries.get(self._name(path), []) if self._entries else []

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(storage.identity(path), storage.identity(self._folder))).as_posix()


def own_results(output: ResultList) -> Callable[[Path, Path], bool]:
    """(file, folder that a person named) -> whether the file is a result: of `output`, or by a list that lies in a
    folder below the named one. (Naming a folder of results asks for them.)
    """
    lists = functools.cache(ResultList)

    def is_own(path: Path, named: Path) -> bool:
        below = path.parents[: path.parents.index(named)] if named in path.parents else ()
        return output.holds(path) or any(lists(folder).holds(path) for folder in below)

    return is_own


def _input(path: Path) -> list[Any]:
    if storage.is_remote(path):
        about = epath.Path(path).stat()
        return [os.fspath(path), about.length, about.mtime]
    status = path.stat()
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    """The same size and time; or, as after copying a folder, the same size and content. In a bucket, the same size."""
    try:
        if storage.is_remote(path):
            return bool(epath.Path(path).stat().length == entry["size"])
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
