"""Models by name: which published files each is made of, and where they lie (catalogue.json)."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from vdiffsr_jax.config import ConfigError

FILE = Path(__file__).with_name("catalogue.json")
_HUB = "https://huggingface.co/"


@dataclasses.dataclass(frozen=True)
class Part:
    """One published file. `sha256` is None where it is not known; `tried`: this address was downloaded from once."""

    url: str
    megabytes: int
    licence: str
    sha256: str | None
    tried: bool

    @property
    def file(self) -> str:
        """Its name, which conversion tells presets by."""
        return Path(urlsplit(self.url).path).name

    @property
    def address(self) -> str:
        """Where it is downloaded from: VDIFFSR_MIRROR/FILE, or HF_ENDPOINT in the place of the hub's own address.

        Raises: ConfigError if what the environment gives is no address.
        """
        if mirror := os.environ.get("VDIFFSR_MIRROR"):
            return f"{_address('VDIFFSR_MIRROR', mirror)}/{self.file}"
        endpoint = os.environ.get("HF_ENDPOINT")
        if endpoint and self.url.startswith(_HUB):
            return f"{_address('HF_ENDPOINT', endpoint)}/{self.url.removeprefix(_HUB)}"
        return self.url


def _address(name: str, given: str) -> str:
    """As a request takes it, letters of any alphabet included. Raises: ConfigError."""
    try:
        parts = urlsplit(given.rstrip("/"))
        host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
        parts.port  # noqa: B018  (raises if it is no number)
    except ValueError:
        parts = host = None  # type: ignore[assignment]
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{name}={given} is no address; it begins with http:// or https://")
    return urlunsplit(parts._replace(netloc=host, path=quote(parts.path, safe="/%~:@!$&'()*+,;=")))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model: parts by their role, and what of it nobody has trained yet ("" if all is)."""

    name: str
    about: str
    parts: dict[str, Part]
    untrained: str = ""

    @property
    def licences(self) -> list[str]:
        return sorted({part.licence for part in self.parts.values()})


@functools.cache
def entries() -> dict[str, Entry]:
    """Every model by its name."""
    content = json.loads(FILE.read_text())
    parts = {name: Part(**values) for name, values in content["parts"].items()}
    result = {}
    for name, values in content["models"].items():
        roles = {role: parts[key] for role, key in values.items() if role not in ("about", "untrained")}
        result[name] = Entry(name, values["about"], roles, values.get("untrained", ""))
    return result


def entry(name: str) -> Entry:
    """Raises: ConfigError listing the names there are."""
    if name not in entries():
        raise ConfigError(f"no model is called {name!r}; the catalogue has {', '.join(entries())}")
    return entries()[name]
