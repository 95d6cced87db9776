"""Where photos lie: folders, list files and ArrayRecord shards, all seen as one numbered collection."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vdiffsr_jax.config import first_line
from vdiffsr_jax.data import photos
from vdiffsr_jax.data.photos import Broken, DataError
from vdiffsr_jax.photos.kinds import SUFFIXES, is_photo
from vdiffsr_jax.photos.photo import ImageError

SHARD_SUFFIX = ".array_record"
INDEX_FORMAT = "vdiffsr_jax photos 1"
_OWN = re.compile(r"([A-Za-z_][\w.]*:[A-Za-z_]\w*):(.*)")  # module:Class:place


class Source(Protocol):
    """Numbered photos: `names` for people, `keys` to pair by, `sizes` (n, 2) int64 heights and widths.

    Threads share one, worker processes get a pickled copy.
    """

    names: list[str]
    keys: list[str]
    sizes: np.ndarray

    def data(self, index: int) -> Path | bytes:
        """What photos.decode takes."""


class Files:
    """Photo files; those whose header cannot be read are reported and left out."""

    def __init__(self, paths: Sequence[Path], keys: Sequence[str], broken: Broken) -> None:
        with futures.ThreadPoolExecutor(8) as pool:
            sizes = list(pool.map(lambda path: _size(path, broken), paths))
        kept = [i for i, size in enumerate(sizes) if size is not None]
        self.names = [str(paths[i]) for i in kept]
        self.keys = [keys[i] for i in kept]
        self.sizes = np.array([sizes[i] for i in kept], np.int64).reshape(-1, 2)

    def data(self, index: int) -> Path:
        return Path(self.names[index])


def _size(path: Path, broken: Broken) -> tuple[int, int] | None:
    try:
        return photos.size(path)
    except ImageError as error:
        broken.report(str(path), error)
        return None


class Records:
    """Photos in ArrayRecord shards written by `vdiffsr_jax.data.pack`; the last record of a shard is its index."""

    def __init__(self, paths: Sequence[str]) -> None:
        from grain.sources import ArrayRecordDataSource

        self.names: list[str] = []
        self.keys: list[str] = []
        self._records: list[int] = []
        sizes: list[tuple[int, int]] = []
        start = 0
        for path in paths:
            count, index = _shard_index(path, ArrayRecordDataSource)
            self.names += [f"{path}: {name}" for name in index["names"]]
            self.keys += [_key(name) for name in index["names"]]
            self._records += range(start, start + count - 1)
            sizes += index["sizes"]
            start += count
        self.sizes = np.array(sizes, np.int64).reshape(-1, 2)
        self._source: Any = ArrayRecordDataSource(list(paths))

    def data(self, index: int) -> bytes:
        record: bytes = self._source[self._records[index]]
        return record


def _shard_index(path: str, reader: Any) -> tuple[int, dict[str, Any]]:
    try:
        with reader([path]) as shard:
            count = len(shard)
            index = json.loads(shard[count - 1])
        if index["format"] != INDEX_FORMAT or len(index["names"]) != count - 1:
            raise ValueError("its index is of another format")
    except RuntimeError as error:  # what the reader raises for a file that is not there or not its own
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} is not a whole shard from vdiffsr_jax.data.pack ({error}); pack it again") from error
    return count, index


def open_source(path: str, broken: Broken) -> Source:
    """A folder of photos (searched recursively) or of shards, a list file (.txt) or one shard; shards also in gs://.

    "module:Class:place" is Class(place, broken), a `Source` outside of this package.
    Raises: DataError if there is nothing of the kind.
    """
    place = Path(path).expanduser()
    if (own := _OWN.fullmatch(path)) and not place.exists():
        return _own_source(own[1], own[2], broken)
    if path.startswith("gs://") or path.endswith(SHARD_SUFFIX):
        return Records(_shards(path))
    if place.is_dir():
        shards = sorted(str(p) for p in place.glob(f"*{SHARD_SUFFIX}"))
        if shards:
            return Records(shards)
        files = sorted(p for p in place.rglob("*") if is_photo(p) and p.is_file())
        if not files:
            raise DataError(f"{path} holds no photos ({', '.join(SUFFIXES)}) and no {SHARD_SUFFIX} shards")
        return Files(files, [_key(p.relative_to(place).as_posix()) for p in files], broken)
    if place.suffix == ".txt" and place.is_file():
        lines = [line.strip() for line in _text(place).splitlines()]
        files = [place.parent / Path(line).expanduser() for line in lines if line and not line.startswith("#")]
        if not files:
            raise DataError(f"{path} lists no photos: write one path a line, absolute or relative to the list")
        missing = [file for file in files if not file.exists()]
        if missing == files:
            raise DataError(f"{path}: {len(missing)} of {len(files)} paths do not exist, the first: {missing[0]}")
        return Files(files, [_key(p.name) for p in files], broken)
    raise DataError(
        f"{path} is neither a folder, a list file (.txt), a shard ({SHARD_SUFFIX}) nor module:Class:place of your own"
    )


def _own_source(name: str, place: str, broken: Broken) -> Source:
    try:
        make = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"source {name} cannot be imported: {error}") from error
    source: Source = make(place, broken)
    return source


def _text(path: Path) -> str:
    """A list file's text: UTF-8, or UTF-16 with its byte order mark, as PowerShell writes it."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None


def _shards(path: str) -> list[str]:
    if path.endswith(SHARD_SUFFIX):
        return [path]
    from etils import epath

    try:
        shards = sorted(str(p) for p in epath.Path(path).glob(f"*{SHARD_SUFFIX}"))
    except ImportError as error:
        raise DataError(f"{path} cannot be listed: {error}") from error
    if not shards:
        raise DataError(f"{path} holds no {SHARD_SUFFIX} shards: make them with python -m vdiffsr_jax.data.pack")
    return shards


def _key(name: str) -> str:
    return name.rpartition(".")[0] or name


class Collection:
    """Several sources as one: `names`, `keys`, `sizes` and the pixels of photo i."""

    def __init__(self, paths: Sequence[str], broken: Broken) -> None:
        self._sources = [open_source(path, broken) for path in paths]
        self._starts = np.cumsum([0, *(len(source.names) for source in self._sources)])
        self.names = [name for source in self._sources for name in source.names]
        self.keys = [key for source in self._sources for key in source.keys]
        self.sizes = np.concatenate([source.sizes for source in self._sources])

    def pixels(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8. Raises: ImageError."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return photos.decode(self._sources[part].data(index - int(self._starts[part])))
