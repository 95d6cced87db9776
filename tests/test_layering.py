"""Data flows one way: ops -> models -> diffusion -> {training, sampling}; nobody imports training, one file orbax."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vdiffsr_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may touch besides itself.
MAY_IMPORT = {
    "config": set(),
    "config_file": {"config"},
    "ops": set(),
    "runtime": {"config"},
    "models": {"ops", "config"},
    "diffusion": {"ops", "config"},
    "weights": {"models", "config", "runtime"},
    "conversion": {"ops", "models", "config", "weights", "diffusion"},
    "photos": {"ops", "config"},
    "metrics": {"ops", "models", "config", "weights", "photos"},
    "data": {"ops", "config", "photos", "config_file", "runtime"},
    "sampling": {"ops", "models", "diffusion", "metrics", "config", "weights", "runtime", "photos"},
    "evaluation": {"ops", "models", "diffusion", "metrics", "data", "sampling", "config", "config_file", "weights",
                   "photos"},
    "training": {"ops", "models", "diffusion", "metrics", "data", "config", "config_file", "weights", "runtime",
                 "photos"},
    "planning": {"ops", "models", "diffusion", "training", "sampling", "data", "config", "config_file", "weights",
                 "runtime"},
    "cli": {"models", "diffusion", "conversion", "metrics", "data", "sampling", "evaluation", "training", "config",
            "config_file", "weights", "runtime", "photos", "distribution", "web"},
    "distribution": {"models", "ops", "sampling", "conversion", "config", "weights", "runtime", "__version__"},
    "web": {"sampling", "photos"},
    "__init__": {"sampling", "distribution", "evaluation", "training"},
}  # fmt: skip
# Commands whose documented name lies in another room than their code.
DOORS = {"training/plan.py", "distribution/__main__.py"}
ORBAX = {"orbax_items.py", "train_state.py"}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path):
    if file.relative_to(PACKAGE).as_posix() in DOORS:
        return
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in MAY_IMPORT, f"{room} is not in the plan of the house"
    for name in imported(file):
        parts = name.split(".")
        if parts[0] == "vdiffsr_jax" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in MAY_IMPORT[room] | {room}, f"{room} must not import {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_no_torch_and_orbax_in_one_place(file: Path):
    tops = {name.split(".")[0] for name in imported(file)}
    assert not tops & {"torch", "torchvision", "lpips"}
    assert "orbax" not in tops or file.name in ORBAX


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_one_idea_per_room(file: Path):
    assert len(file.read_text().splitlines()) <= 300
