"""A model of the catalogue into the cache: downloaded, checked, converted.

CACHE/downloads/FILE        as published
CACHE/downloads/hashes.json SHA-256 by file, as first seen where the catalogue knows none
CACHE/models/NAME           the checkpoint, whole or not at all
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from etils import epath

from vdiffsr_jax.distribution import catalogue
from vdiffsr_jax.distribution.catalogue import Entry, Part
from vdiffsr_jax.distribution.download import DownloadError, begun, digest, download
from vdiffsr_jax.runtime.compile_cache import cache_folder
from vdiffsr_jax.weights import storage, whole

Ask = Callable[[str], bool]


def model_folder(name: str) -> Path:
    """Where the converted model lies, fetched or not."""
    return cache_folder() / "models" / name


def is_fetched(name: str) -> bool:
    return (model_folder(name) / "config.json").is_file()


def terms(entry: Entry) -> str:
    """What a person is told before the download: size, place, licence, what is untrained or untried."""
    missing = [part for part in entry.parts.values() if not _file(part).exists()]
    lines = [f"{entry.name}: {entry.about}"]
    lines += [f"  {part.megabytes:>5} MB  {part.address}  ({part.licence})" for part in missing]
    total = sum(part.megabytes for part in missing)
    lines.append(f"  {total} MB to download, and about as much again for the converted model, into {cache_folder()}")
    lines.append(f"  licences: {'; '.join(entry.licences)}")
    if any(not part.tried for part in missing):
        lines.append("  these addresses were taken from public sources and have not been tried by this project")
    if entry.untrained:
        lines.append(f"  note: {entry.untrained}")
    return "\n".join(lines)


def fetch(name: str, *, ask: Ask, accept_change: bool = False) -> Path:
    """The folder of a model, downloaded and converted if it is not there yet.

    Args: ask: shown the terms, says whether to go on; not called if nothing has to be done. accept_change: take files
        that have to be downloaded whatever their hashes.
    Raises: ConfigError for an unknown name; DownloadError if a file cannot be had, is another one than expected, or
        it is not agreed to.
    """
    entry = catalogue.entry(name)
    folder = model_folder(name)
    if is_fetched(name):
        return folder
    if not ask(terms(entry)):
        raise DownloadError(f"{name} is not downloaded: agree to it with --yes, or `vdiffsr-model fetch {name}`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole.locked(folder.parent / f".{name}.lock"):
        if is_fetched(name):  # by another process meanwhile
            return folder
        files = {role: _download(part, accept_change) for role, part in entry.parts.items()}
        _convert(entry, files, folder)
    print(f"{name} is ready in {folder}; licences: {'; '.join(entry.licences)}", file=sys.stderr)
    return folder


def remove(name: str) -> list[Path]:
    """Delete a converted model and the downloads, whole or begun, that no other fetched model is made of.

    Returns: what went. Raises: ConfigError for an unknown name; OSError if something cannot be deleted.
    """
    entry, folder, gone = catalogue.entry(name), model_folder(name), []
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole.locked(folder.parent / f".{name}.lock"):
        if folder.exists():
            (folder / "config.json").unlink(missing_ok=True)  # without it, what cannot be deleted is no model
            shutil.rmtree(folder)
            gone.append(folder)
        kept = {
            part.file
            for other in catalogue.entries().values()
            if is_fetched(other.name)
            for part in other.parts.values()
        }
        for part in entry.parts.values():
            if part.file in kept or not _file(part).parent.exists():
                continue
            with _lock(_file(part)):
                for path in (_file(part), *begun(_file(part))):
                    if path.exists():
                        path.unlink()
                        gone.append(path)
    return gone


def _lock(path: Path) -> AbstractContextManager[None]:
    """Of a file among the downloads."""
    return whole.locked(path.parent / f".{path.name}.lock")


def _file(part: Part) -> Path:
    return cache_folder() / "downloads" / part.file


def _download(part: Part, accept_change: bool) -> Path:
    path = _file(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        expected = None if accept_change else part.sha256 or _hashes().get(part.file)
        if path.exists():  # downloaded for another model, or put there by hand
            if expected is not None and digest(path) != expected:
                raise DownloadError(f"{path} is not the file that is expected (SHA-256 {expected}); delete it")
        else:
            download(part.address, path, sha256=expected, report=_Bar(part.file))
    return path


def _convert(entry: Entry, files: dict[str, Path], folder: Path) -> None:
    """Assemble the model, then hold the files to their hashes from now on."""
    from vdiffsr_jax.config import ConfigError
    from vdiffsr_jax.conversion.assemble import assemble
    from vdiffsr_jax.conversion.rules import ConversionError
    from vdiffsr_jax.weights.checkpoint import save_model
    from vdiffsr_jax.weights.lazy_array import WeightsFileError

    try:
        config, items, sources, _ = assemble(
            files["denoiser"], files["first_stage"], files.get("var"), files.get("tokenizer")
        )
        save_model(folder, items, kind="vdiffsr", config=config, sources=sources)
    except (ConversionError, WeightsFileError, ConfigError) as error:
        for part in entry.parts.values():
            if part.sha256 is None and part.file not in _hashes():  # what nobody vouches for is not kept
                _file(part).unlink(missing_ok=True)
        raise DownloadError(f"what was downloaded for {entry.name} does not convert: {error}") from error
    seen = {str(source["file"]): str(source["sha256"]) for source in sources}
    path = _hashes_file()
    with _lock(path):  # other models are fetched at the same time
        storage.write_text(epath.Path(path), json.dumps(_hashes() | seen, indent=2) + "\n")


def _hashes_file() -> Path:
    return cache_folder() / "downloads" / "hashes.json"


def _hashes() -> dict[str, str]:
    """Raises: DownloadError if the file is damaged: without it, a changed file would pass."""
    path = _hashes_file()
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DownloadError(f"{path} is damaged; delete it, and the files beside it are held to what they are now")
    return found


class _Bar:
    """One line on a terminal; elsewhere the name at the start and nothing more."""

    def __init__(self, name: str) -> None:
        self.name, self.start, self.drawn = name, time.monotonic(), 0.0
        self.first: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self.first is None:
            self.first = done
            if not sys.stderr.isatty():
                print(f"downloading {self.name}", file=sys.stderr)
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self.drawn < 0.2 and done != total):
            return
        self.drawn = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
        size = f"{done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")
        print(f"\r\x1b[2K{self.name}: {size}, {rate / 1e6:.1f} MB/s{left}", end="", file=sys.stderr, flush=True)
        if done == total:
            print(file=sys.stderr)
