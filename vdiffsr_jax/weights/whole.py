"""What one process at a time writes on a disk, and what appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vdiffsr_jax.config import ConfigError, ExpectedError
from vdiffsr_jax.weights.storage import is_remote

LOCK = ".writing"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # a network's disk that knows none


class BusyError(ExpectedError, OSError):
    """Another process writes there now."""

    exit_code = 1


@contextlib.contextmanager
def alone(target: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, no other process writes this file or folder, if all ask here; of a bucket nobody can say.

    Raises: BusyError at once if one does; OSError if nothing can be written there.
    """
    if is_remote(target):
        yield
        return
    file = _lock_of(Path(target))
    file.parent.mkdir(parents=True, exist_ok=True)
    busy = BusyError(
        f"{target}: another process writes there; wait until it has ended, or choose another place (if none does, as "
        f"after the loss of a machine, delete {file})"
    )
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(file, timeout=0))
        except Timeout:
            raise busy from None
        try:
            if _lock_of(Path(target)) != file:  # another process has made the folder meanwhile
                raise busy
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows holds it, and removes it by itself
                file.unlink()


@contextlib.contextmanager
def locked(file: Path, *, timeout: float = -1) -> Iterator[None]:
    """Inside, no other process has this lock, as far as the disk knows any.

    Args: timeout: how many seconds to wait for others, below 0 for ever.
    Raises: filelock.Timeout; OSError if the file cannot be made.
    """
    lock = FileLock(file, timeout=timeout, fallback_to_soft=False)  # a soft one outlives whoever is killed
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def _lock_of(target: Path) -> Path:
    """Inside of a folder that is there: what lies beside a mounted one may not be ours to write."""
    return target / LOCK if target.is_dir() else target.with_name(f".{target.name}{LOCK}")


def is_left(path: os.PathLike[str]) -> bool:
    """Whether it is the lock, or what a killed process was writing."""
    name = Path(path).name
    return name == LOCK or (name.startswith(".") and name.endswith(".partial"))


def check_empty(output: Path) -> None:
    """Raises: ConfigError if there is anything but an empty folder, or one where a killed process was writing."""
    if os.path.lexists(output) and not (output.is_dir() and all(map(is_left, output.iterdir()))):
        raise ConfigError(f"{output} holds something; choose another folder")


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to write to, whose files are those of `output` when the work inside has ended well; or nothing is there.

    Raises: as `check_empty` and `alone`.
    """
    check_empty(output)
    with alone(output):
        check_empty(output)
        there = output.is_dir()  # a mounted folder, or a link to one, cannot be replaced
        partial = output / ".partial" if there else output.with_name(f".{output.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            if there:
                for file in sorted(partial.iterdir(), key=lambda file: file.suffix == ".json"):  # says what is there
                    file.rename(output / file.name)
            else:
                partial.rename(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
