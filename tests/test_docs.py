"""docs/api.md does what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_page_of_the_api_runs():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 12
    assert not found.failed
