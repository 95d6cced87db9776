"""Which photos go in and what their results are called."""

from __future__ import annotations

import dataclasses
import glob
from collections import Counter
from pathlib import Path

from vdiffsr_jax.photos.kinds import EXTENSIONS, SUFFIXES, format_of, is_photo

EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"


class UsageError(ValueError):
    """The command line asks for something that cannot be done; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One photo: `name` is its path below the input folder, for messages and tables."""

    source: Path
    target: Path
    name: str
    format: str


def find(pattern: str) -> list[tuple[Path, Path]]:
    """(file, its path below the common folder) of a file, a folder or a glob, sorted.

    A folder gives the images directly in it, by suffix (use 'FOLDER/**/*.png' for sub-folders); hidden files are left
    out. A glob's common folder is its part before the first wildcard. `examples`, where there is nothing of that name,
    gives the photos that the package holds.

    Raises: UsageError if nothing is found.
    """
    path = Path(pattern)
    if pattern == EXAMPLES.name and not path.exists():
        return find(str(EXAMPLES))
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        files = [p for p in path.iterdir() if is_photo(p)]
        root, what = path, f"folder {pattern} has no images ({', '.join(SUFFIXES)}) directly in it"
    elif glob.has_magic(pattern):
        files = [Path(p) for p in glob.glob(pattern, recursive=True)]
        fixed = list(path.parts)
        while fixed and any(glob.has_magic(part) for part in fixed):
            fixed.pop()
        root, what = Path(*fixed), f"no file matches {pattern}"
    else:
        raise UsageError(f"no such file or folder: {pattern}")
    files = sorted(p for p in files if p.is_file() and not p.name.startswith("."))
    if not files:
        raise UsageError(what)
    return [(p, p.relative_to(root)) for p in files]


def plan(inputs: list[tuple[Path, Path]], output: Path, *, format: str, suffix: str) -> list[Task]:
    """A task for every input: OUTPUT/sub-folder/STEM + suffix + extension.

    Inputs that would share a name carry their own extension in it (a.png, a.jpg -> a_png.png, a_jpg.png), then numbers.
    `format` may be `same`: each input's own by its extension, png where that is unknown.

    Raises: UsageError if the output is a file or a result would replace an input.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file; give a folder")
    formats = [(format_of(p) or "png") if format == "same" else format for p, _ in inputs]
    plain = [
        relative.with_name(relative.stem + suffix + EXTENSIONS[kind])
        for (_, relative), kind in zip(inputs, formats, strict=True)
    ]
    shared = Counter(_folded(p) for p in plain)
    taken: set[str] = set()
    tasks = []
    for (source, relative), target, kind in zip(inputs, plain, formats, strict=True):
        stem = target.stem
        if shared[_folded(target)] > 1:
            stem = f"{relative.stem}_{relative.suffix.lstrip('.').lower() or 'file'}{suffix}"
        number, name = 1, target.with_name(stem + target.suffix)
        while _folded(name) in taken:
            number += 1
            name = target.with_name(f"{stem}_{number}{target.suffix}")
        taken.add(_folded(name))
        tasks.append(Task(source, output / name, relative.as_posix(), kind))
    sources = {task.source.resolve() for task in tasks}
    clash = next((task for task in tasks if task.target.resolve() in sources), None)
    if clash is not None:
        raise UsageError(f"the result {clash.target} would replace an input; give another -o or a --suffix")
    return tasks


def references(tasks: list[Task], pattern: str) -> dict[str, Path]:
    """The reference of every task by its name: the file with the same sub-folder and stem.

    Raises: UsageError if none is found, or two files could be meant.
    """
    by_stem: dict[str, list[Path]] = {}
    found = find(pattern)
    for path, relative in found:
        by_stem.setdefault(relative.with_suffix("").as_posix(), []).append(path)
    if len(found) == len(tasks) == 1:
        return {tasks[0].name: found[0][0]}
    result = {}
    for task in tasks:
        candidates = by_stem.get(Path(task.name).with_suffix("").as_posix(), [])
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
