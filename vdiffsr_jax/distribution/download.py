"""One file over HTTP: resumed where it broke off, checked, and in its place only when it is whole.

The standard library's client, so that proxies are the environment's (https_proxy, no_proxy). What has arrived stays in
a hidden file beside the target, with the server's validator: a later try asks for the rest (RFC 9110, Range and
If-Range), and gets all of it anew if the file has changed since.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from vdiffsr_jax import __version__
from vdiffsr_jax.config import ExpectedError

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml)", re.IGNORECASE)
_PASSING = (408, 429, 500, 502, 503, 504)

Report = Callable[[int, int | None], None]


class DownloadError(ExpectedError, RuntimeError):
    """A file did not arrive as it should; the message says why and what to do."""

    exit_code = 1


class _Broken(Exception):  # noqa: N818  (not for others: the next try goes on)
    """The connection ended before the file did."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    report: Report = lambda done, total: None,
    tries: int = 5,
    pause: float = 1.0,
) -> str:
    """Fetch `url` to `target`, going on with what an earlier call left; returns the SHA-256 of the file.

    Args: sha256: what it must be. report: told (bytes so far, bytes in all or None). pause: seconds before the second
        try, doubled for each further one.
    Raises: DownloadError if the server does not have it, sends a page or another file, ends early every time, or the
        disk is full; what can be resumed stays hidden beside the target, everything else is gone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, validator = begun(target)
    try:
        for attempt in range(tries):
            try:
                _once(url, partial, validator, report)
                break
            except (_Broken, urllib.error.URLError, OSError, http.client.HTTPException) as error:
                _raise_if_final(url, error, partial)
                if attempt == tries - 1:
                    raise DownloadError(
                        f"{url}: {_cause(error)}, {tries} times; what arrived is kept, the same command goes on"
                    ) from error
                time.sleep(pause * 2**attempt)
        found = digest(partial)
        if sha256 is not None and found != sha256:
            raise DownloadError(
                f"{url} is not the file that is expected: its SHA-256 is {found}, not {sha256}. It was deleted; "
                "if the authors have published a new one, `fetch --accept-change`"
            )
    except DownloadError as error:
        if error.__cause__ is None:  # only where every try was cut short there is something to go on with
            _forget(partial, validator)
        raise
    partial.replace(target)
    validator.unlink(missing_ok=True)
    return found


def begun(target: Path) -> tuple[Path, Path]:
    """Where what has arrived of a file lies, and the server's validator."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.validator")


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _once(url: str, partial: Path, validator: Path, report: Report) -> None:
    """One request. Raises: _Broken if it ends before the file does; DownloadError for what another try cannot mend."""
    have = partial.stat().st_size if partial.exists() and validator.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"vdiffsr_jax/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator.read_text())
    try:
        # An opener of this moment: the library's own would keep the proxies it has seen first.
        response = urllib.request.build_opener().open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what we have is no part of what is there now
            _forget(partial, validator)
            raise _Broken("the server has no more of it") from error
        raise
    with response:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise DownloadError(f"{url}: the server sent a page, not the file (a login, or a proxy's message?)")
        start, total = _extent(response, have)
        _keep_validator(response, validator)
        _check_space(partial, None if total is None else total - start)
        with partial.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            done = _copy(url, response, file, start, total, report)
    if total is not None and done < total:
        raise _Broken(f"it ended after {done} of {total} bytes")


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """(where the bytes that follow belong, the file's size if told)."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have:
            raise DownloadError("the server's answer to a request for the rest of the file makes no sense")
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _keep_validator(response: http.client.HTTPResponse, validator: Path) -> None:
    strong = response.headers.get("ETag", "")
    value = strong if strong.startswith('"') else response.headers.get("Last-Modified")
    if value:
        validator.write_text(value)
    else:  # without one, nobody can tell whether the rest belongs to what we have
        validator.unlink(missing_ok=True)


def _copy(
    url: str, response: http.client.HTTPResponse, file: IO[bytes], done: int, total: int | None, report: Report
) -> int:
    report(done, total)
    while chunk := response.read(_CHUNK):
        if done == 0 and _PAGE.match(chunk):
            raise DownloadError(f"{url}: the server sent a page, not the file (a login, or a proxy's message?)")
        file.write(chunk)
        done += len(chunk)
        report(done, total)
    return done


def _check_space(partial: Path, needed: int | None) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed is not None and needed > free:
        raise DownloadError(
            f"the disk of {partial.parent} is full: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free "
            "(VDIFFSR_CACHE puts the cache elsewhere)"
        )


def _raise_if_final(url: str, error: Exception, partial: Path) -> None:
    """What another try would not mend."""
    if isinstance(error, urllib.error.HTTPError) and error.code not in _PASSING:
        raise DownloadError(
            f"{url}: the server answers {error.code} {error.reason}; if the file has moved, set VDIFFSR_MIRROR or put "
            f"it in {partial.parent} under its name"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DownloadError(f"the disk of {partial.parent} is full (VDIFFSR_CACHE puts the cache elsewhere)")
    if isinstance(error, PermissionError):
        raise DownloadError(f"{partial.parent} is not writable (VDIFFSR_CACHE puts the cache elsewhere)")


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", None) if isinstance(error, urllib.error.URLError) else None
    return str(reason or error) or type(error).__name__


def _forget(partial: Path, validator: Path) -> None:
    partial.unlink(missing_ok=True)
    validator.unlink(missing_ok=True)
