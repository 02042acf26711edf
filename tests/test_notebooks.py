"""The notebooks run from their first cell to their last, in a folder of their own."""

from pathlib import Path

import nbformat
import pytest
from conftest import SHARED
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.name)
def test_a_notebook_runs(path, tmp_path, demo_model, monkeypatch):
    published = SHARED / "paper" / "mmlu_curves.csv"
    if published.exists():  # one notebook reads them; without, it measures small ones itself
        monkeypatch.setenv("PAPER_CURVES", str(published))
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks stripped"
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "import inactive_heads" in first
    assert "%pip install" in first, "the first cell installs what Colab lacks"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
