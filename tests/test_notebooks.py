"""The notebooks run in a folder of their own, and come out as they say they do."""

import re

import nbformat
import pytest
from helpers.places import CLAIMS, ROOT, SHARED
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PUBLISHED = SHARED / "paper" / "mmlu_curves.csv"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_does_what_it_says(path, tmp_path, demo_model):
    run(path, tmp_path)


def test_the_papers_tables_of_the_published_curves(tmp_path, monkeypatch):
    """Without them, as above, the notebook measures small curves itself."""
    if not PUBLISHED.exists():
        pytest.skip(f"no published curves at {PUBLISHED}")
    monkeypatch.setenv("PAPER_CURVES", str(PUBLISHED))
    done = run(ROOT / "notebooks" / "04_the_papers_tables.ipynb", tmp_path)
    said = "".join(
        output.get("data", output).get("text/plain", output.get("text", ""))
        for cell in done.cells
        for output in cell.get("outputs", [])
    )
    assert "14 models" in said
    assert re.search(r"reference +4\.61\nbest +12\.28", said)


def run(path, folder):
    """The notebook after it has run from its first cell to its last, and then its claims."""
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks stripped"
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "import inactive_heads" in first
    assert "%pip install" in first, "the first cell installs what Colab lacks"
    claims = (CLAIMS / f"{path.stem}.py").read_text("utf-8")
    notebook.cells.append(nbformat.v4.new_code_cell(claims))
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}})
    return client.execute()
