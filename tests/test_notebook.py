"""docs/notebooks/tour.ipynb runs from top to bottom, as Jupyter runs it, and comes without outputs."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs/notebooks/tour.ipynb"


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    results = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in results) >= 4
    assert any("config.json" in data.get("text/plain", "") for data in results)
