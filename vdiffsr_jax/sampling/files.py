"""Which photos go in and what their results are called."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from etils import epath

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.photos.kinds import EXTENSIONS, HOW_TO_READ, SUFFIXES, format_of, is_photo
from vdiffsr_jax.weights.storage import identity, is_remote, location

EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"


class UsageError(ExpectedError, ValueError):
    """The command line asks for something that cannot be done; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class PhotoTask:
    """One photo: `name` is its path below the input folder as it can be printed, for messages and tables."""

    source: Path
    target: Path
    name: str
    format: str


Inputs = list[tuple[Path, Path]]
"""(file, its path below the common folder) of each."""


def printable(path: Path) -> str:
    """A path in one line of plain text: what is no UTF-8 and what is not printed is escaped."""
    text = path.as_posix().encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find(pattern: str) -> Inputs:
    """The photos of a file, a folder or a glob, sorted, each real file once.

    A folder gives the images directly in it, by suffix (use 'FOLDER/**/*.png' for sub-folders); hidden files are left
    out. A glob's common folder is its part before the first wildcard. `~` is the home folder. `examples`,
    where there is nothing of that name, gives the photos that the package holds. A bucket (gs://) is looked through
    in the same way, with globs that go by suffix too and know no `**`.

    Raises: UsageError if nothing is found; ConfigError if nothing here opens buckets.
    """
    if not pattern:
        raise UsageError("an input without a name: give a photo, a folder or a quoted glob")
    path = location(pattern)
    if pattern == EXAMPLES.name and not path.exists():
        return find(str(EXAMPLES))
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        files = [p for p in _files_in(path) if is_photo(p)]
        root, what = path, f"folder {pattern} has no images ({', '.join(SUFFIXES)}) directly in it"
    elif glob.has_magic(pattern):
        root, what = path, f"no file matches {pattern}"
        while glob.has_magic(os.fspath(root)):
            root = root.parent
        parts = path.relative_to(root).parts
        if is_remote(path) and "**" in parts:
            raise UsageError(f"{pattern}: ** is not followed in buckets; name the folders, or use * for each")
        files = (
            [p for p in root.glob("/".join(parts)) if is_photo(p)]
            if is_remote(path)
            else [p for p in _matching(root, parts, set()) if p.is_file()]
        )
    else:
        raise UsageError(f"no such file or folder: {pattern}")
    files = sorted(p for p in files if not p.name.startswith("."))
    if not files:
        others = left_out(path)
        raise UsageError(what + (f"; there are {others}" if others else ""))
    # A file before its links.
    real = {identity(p): p for p in sorted(files, key=lambda p: is_remote(p) or not p.is_symlink())}
    return [(p, Path(*p.relative_to(root).parts)) for p in files if real[identity(p)] == p]


def _files_in(folder: Path) -> list[Path]:
    """The files directly in a folder; of a bucket's folder by one request, whatever their number."""
    if not is_remote(folder):
        return [p for p in folder.iterdir() if p.is_file()]
    return [folder / name for _, _, names in itertools.islice(epath.Path(folder).walk(), 1) for name in names]


def _matching(folder: Path, parts: Sequence[str], entered: set[tuple[str, int]]) -> Iterator[Path]:
    """Files below a folder that match the parts of a pattern. As glob does, but links cannot lead in circles."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        place = (os.path.realpath(folder), len(parts))
        if place in entered:
            return
        entered.add(place)
        yield from _matching(folder, rest or ("*",), entered)
    try:
        entries = sorted(folder.iterdir(), key=lambda p: (p.is_symlink(), p.name))
    except OSError:  # no folder, or not for us
        return
    for entry in entries:
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if part == "**":
            if entry.is_dir():
                yield from _matching(entry, parts, entered)
        elif fnmatch.fnmatch(entry.name, part):
            if not rest:
                yield entry
            elif entry.is_dir():
                yield from _matching(entry, rest, entered)


def by_stem(pattern: str) -> dict[str, list[Path]]:
    """{printable path below the folder without its extension: files} of `find`."""
    stems: dict[str, list[Path]] = {}
    for path, relative in find(pattern):
        stems.setdefault(printable(relative.with_suffix("")), []).append(path)
    return stems


def find_all(patterns: Sequence[str], is_own: Callable[[Path, Path], bool]) -> tuple[Inputs, list[str]]:
    """The photos of several files, folders and globs, each real file once, and what a person should know of the others.

    Args: is_own: (file, common folder of its pattern) -> whether it is a result of an earlier run, which is no input.
    Raises: UsageError if nothing is found.
    """
    inputs: Inputs = []
    seen: set[str] = set()
    notes, own = [], 0
    for pattern in patterns:
        for path, relative in find(pattern):
            root = path.parents[len(relative.parts) - 1]
            if is_own(path, root):
                own += 1
            elif identity(path) not in seen:
                seen.add(identity(path))
                inputs.append((path, relative))
        if others := left_out(location(pattern)):
            notes.append(f"left out of {pattern}: {others}")
    if own:
        notes.append(f"{own} results of earlier runs are no inputs")
    if not inputs:
        raise UsageError(f"{' '.join(patterns)}: nothing but results of earlier runs; to upscale those give another -o")
    return inputs, notes


def left_out(folder: Path) -> str:
    """What lies in a folder and is no input, counted by kind; empty if there is nothing, or it is no folder."""
    kinds: Counter[str] = Counter()
    if not folder.is_dir():
        return ""
    if not is_remote(folder):
        dead = [p for p in folder.iterdir() if not p.name.startswith(".") and not p.exists()]
        kinds.update(["link to nothing"] * len(dead))
    for path in _files_in(folder):
        if not (path.name.startswith(".") or is_photo(path)):
            suffix = path.suffix.lower()
            how = HOW_TO_READ.get(suffix)
            kinds[(suffix or "without a suffix") + (f" ({how})" if how else "")] += 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def destination(output: Path, count: int, format: str | None) -> tuple[Path, str | None, str]:
    """(folder of the results, the one result's own name if -o is a file's, format).

    Args: count: of the inputs. format: as asked; png by default, or what the file's name says.
    Raises: UsageError if -o is a file's name and there are several inputs, or its format is another, or unknown.
    """
    kind = format_of(output)
    if output.is_dir() or (kind is None and not output.exists() and not is_photo(output)):
        return output, None, format or "png"
    if kind is None:
        what = "is a file" if output.exists() else f"cannot be written ({', '.join(EXTENSIONS.values())} can)"
        raise UsageError(f"-o {output} {what}; give a folder")
    if count != 1:
        raise UsageError(f"-o {output} is a file, for {count} inputs; give a folder")
    if format not in (None, "same", kind):
        raise UsageError(f"-o {output} does not go with --format {format}")
    return output.parent, output.name, kind


def plan(inputs: Inputs, output: Path, *, format: str, suffix: str, name: str | None = None) -> list[PhotoTask]:
    """A task for every input: OUTPUT/sub-folder/STEM + suffix + extension, or OUTPUT/NAME for a single one.

    Inputs that would share a name carry their own extension in it (a.png, a.jpg -> a_png.png, a_jpg.png), then numbers.
    `format` may be `same`: each input's own by its extension, png where that is unknown.

    Raises: UsageError if a result would replace an input.
    """
    if name is not None:
        ((source, relative),) = inputs
        return _without_clash([PhotoTask(source, output / name, printable(relative), format)])
    formats = [(format_of(p) or "png") if format == "same" else format for p, _ in inputs]
    plain = [
        relative.with_name(relative.stem + suffix + EXTENSIONS[kind])
        for (_, relative), kind in zip(inputs, formats, strict=True)
    ]
    names = Counter(relative for _, relative in inputs)
    shared = Counter(_folded(p) for p in plain)
    taken: set[str] = set()
    tasks = []
    for (source, relative), target, kind in zip(inputs, plain, formats, strict=True):
        stem = target.stem
        if shared[_folded(target)] > 1:
            stem = f"{relative.stem}_{relative.suffix.lstrip('.').lower() or 'file'}{suffix}"
        number, target = 1, target.with_name(stem + target.suffix)
        while _folded(target) in taken:
            number += 1
            target = target.with_name(f"{stem}_{number}{target.suffix}")
        taken.add(_folded(target))
        shown = printable(relative if names[relative] == 1 else source)
        tasks.append(PhotoTask(source, output / target, shown, kind))
    return _without_clash(tasks)


def _without_clash(tasks: list[PhotoTask]) -> list[PhotoTask]:
    sources = {identity(task.source) for task in tasks}
    clash = next((task for task in tasks if identity(task.target) in sources), None)
    if clash is not None:
        raise UsageError(f"the result {clash.target} would replace an input; give another -o or a --suffix")
    return tasks


def sheets(tasks: Sequence[PhotoTask], output: Path) -> dict[PhotoTask, Path]:
    """Where the comparison sheet of each result lies: below OUTPUT/compare as the result does below OUTPUT.

    A sheet is a PNG; where two results differ in their kind alone, its name keeps it (a.png.png, a.jpg.png).
    Raises: UsageError if a result lies there itself.
    """
    compare = output / "compare"
    if task := next((task for task in tasks if task.target.is_relative_to(compare)), None):
        raise UsageError(f"the result {task.target} would lie among the sheets of --compare; give another -o")
    of_stem = Counter(_folded(task.target.with_suffix("")) for task in tasks)
    found = {}
    for task in tasks:
        place = compare / task.target.relative_to(output)
        alone = of_stem[_folded(task.target.with_suffix(""))] == 1
        found[task] = place.with_suffix(".png") if alone else place.with_name(f"{place.name}.png")
    return found


def references(tasks: list[PhotoTask], inputs: Inputs, pattern: str) -> dict[str, Path]:
    """The reference of every task by its name: the file with the same sub-folder and stem.

    Raises: UsageError if none is found, or two files could be meant.
    """
    found = by_stem(pattern)
    if len(tasks) == 1 and [len(paths) for paths in found.values()] == [1]:
        return {tasks[0].name: next(iter(found.values()))[0]}
    stems = {path: printable(relative.with_suffix("")) for path, relative in inputs}
    result = {}
    for task in tasks:
        candidates = found.get(stems[task.source], [])
        if len(candidates) > 1:
            raise UsageError(f"two references for {task.name}: {candidates[0]} and {candidates[1]}")
        if candidates:
            result[task.name] = candidates[0]
    if not result:
        raise UsageError(f"-r {pattern} has no reference with the name of an input (such as {tasks[0].name})")
    return result


def _folded(path: Path) -> str:
    """Names that differ in case only are one file on some systems."""
    return path.as_posix().casefold()
