"""The notes of a release: the CHANGELOG's section of a tag, which must be the package's version.

python .ci/release_notes.py v0.1.0 > notes.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(tag: str, changelog: str, version: str) -> str:
    """The section's text.

    Raises: ValueError if the tag is not `v` + version, or its section is missing or unreleased.
    """
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag}, the package's version {version} (vdiffsr_jax/__init__.py)")
    found = re.search(rf"^## {re.escape(version)} \((.*?)\)\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"CHANGELOG.md has no section '## {version} (date)'")
    if found[1] == "unreleased":
        raise ValueError(f"CHANGELOG.md says that {version} is unreleased: write its date")
    return found[2].strip() + "\n"


def main(tag: str) -> int:
    version = re.search(r'__version__ = "(.*?)"', (ROOT / "vdiffsr_jax" / "__init__.py").read_text())
    assert version is not None
    try:
        print(notes(tag, (ROOT / "CHANGELOG.md").read_text(), version[1]), end="")
    except ValueError as error:
        print(f"release_notes.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
