"""What the package imports is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEVER_IMPORTED = {"gcsfs"}  # fsspec finds it for gs://


def declared() -> tuple[set[str], set[str]]:
    """(required, those of the extras that users install) by name, as pip writes them."""

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[<>=;\s\[]", line)[0] for line in lines if line and not line.startswith("#")}

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    optional = set().union(*(names(lines) for extra, lines in extras.items() if extra not in ("dev", "docs")))
    return names((ROOT / "requirements.txt").read_text().splitlines()), optional - NEVER_IMPORTED


def imported() -> set[str]:
    """Top names of every import in the package, wherever it is; of `_package(name, ...)` in photos/codecs.py too."""
    found = set()
    for file in (ROOT / "vdiffsr_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "_package":
                found.add(ast.literal_eval(node.args[0]))
    return found - set(sys.stdlib_module_names) - {"vdiffsr_jax"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_declared_and_imported_are_the_same():
    required, optional = declared()
    distributions = packages_distributions()
    used = {name: {plain(d) for d in distributions.get(name, [name])} for name in imported()}
    known = {plain(name) for name in required | optional}
    undeclared = sorted(name for name, giving in used.items() if not giving & known)
    assert not undeclared, f"imported but not declared: {undeclared}"
    unused = sorted(known - set().union(*used.values()))
    assert not unused, f"declared but never imported: {unused}"
