"""The pages about the code name files that exist, and the drawing of the house is the plan that test_layering holds."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.test_layering import MAY_IMPORT

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("page", ["architecture.md", "extending.md"])
def test_every_file_and_link_exists(page: str):
    text = (ROOT / "docs" / page).read_text()
    own = re.findall(r"^# (\w+\.py)$", text, re.MULTILINE)  # the examples' own files
    files = set(re.findall(r"`([\w/]+\.(?:py|svg))`", text)) - set(own)
    links = set(re.findall(r"\]\(([^)#:]+)\)", text))
    assert len(files) >= 5
    assert links
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []
    assert [name for name in sorted(links) if not (ROOT / "docs" / name).is_file()] == []


def test_the_drawing_is_the_plan():
    drawing = ElementTree.parse(ROOT / "docs" / "house.svg")
    height = {text.text: float(text.attrib["y"]) for text in drawing.iter(f"{SVG}text") if text.get("class") == "name"}
    assert set(height) == set(MAY_IMPORT)
    upward = [(room, used) for room, below in MAY_IMPORT.items() for used in below & set(height)
              if height[used] <= height[room]]  # fmt: skip
    assert not upward
