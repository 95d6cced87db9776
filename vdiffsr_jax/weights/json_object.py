"""A JSON object out of a file that somebody else may have written, cut off or nested without end."""

from __future__ import annotations

import json
from typing import Any, Protocol


class _File(Protocol):
    """A path on a disk or in a bucket."""

    def read_bytes(self) -> bytes: ...


def read(file: _File) -> dict[str, Any]:
    """What is in the file. Raises: ValueError saying what is wrong, without the file's name; OSError."""
    try:
        content = json.loads(file.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not one JSON object")
    return content
