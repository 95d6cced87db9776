"""The small model that the package holds."""

from __future__ import annotations

from pathlib import Path

BUNDLED_MODEL = Path(__file__).parents[1] / "assets" / "box"
