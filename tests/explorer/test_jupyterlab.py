"""The head explorer where it is used: a real JupyterLab, in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from helpers.models_on_disk import save_folder
from helpers.places import ROOT

TOKEN = "explorer"
CELLS = [
    'import inactive_heads as ih\nmodel = ih.load_model("model", dtype="float32")\n'
    'texts = ["the cat sat on a mat and the dog ran far", "the dog sat on the cat"]\n'
    "explorer = ih.explore(model, texts)",
    "explorer",
    "print('looked at', explorer.head, 'selected', explorer.fixed().heads)",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with the notebook, on a port of its own."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    home = tmp_path_factory.mktemp("lab")
    save_folder(home / "model")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else Lab asks
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, home / "explore.ipynb")
    runtime = home / "runtime"
    places = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA")}
    places |= {f"JUPYTERLAB_{kind}_DIR": str(home / kind) for kind in ("SETTINGS", "WORKSPACES")}
    environment = os.environ | places | {"JUPYTER_RUNTIME_DIR": str(runtime)}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": "0",
        "ServerApp.open_browser": "False",
        "ServerApp.root_dir": str(home),
        "ServerApp.allow_root": "True",
        "IdentityProvider.token": TOKEN,
        "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "LabApp.news_url": "None",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env=environment, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield _address(server, runtime, home / "lab.log")
        finally:
            server.terminate()
            server.wait(timeout=120)


def _address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Where the server listens, which it writes down when it does."""
    until = time.monotonic() + 180
    while time.monotonic() < until and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(file.read_text())["url"]
            except ValueError:  # it is being written
                break
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def run_all(page) -> None:
    """Run the notebook's cells; again, where Lab let go of them while its kernel connected."""
    page.locator(".jp-Notebook .jp-CodeCell").nth(len(CELLS) - 1).wait_for()
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").nth(len(CELLS) - 1)
    for _ in range(5):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(
            "prompt => prompt.textContent !== '[*]:'", arg=prompt.element_handle()
        )
        if prompt.inner_text() != "[ ]:":
            return
    raise AssertionError("JupyterLab does not run the notebook")


def test_a_click_shows_a_head_and_zeroing_two_changes_the_loss(lab, browser):
    page = browser.new_page(viewport={"width": 1500, "height": 1100})
    page.set_default_timeout(180_000)
    page.goto(f"{lab}lab/tree/explore.ipynb?token={TOKEN}")
    run_all(page)
    explorer = page.locator(".ih-explorer")
    cells = explorer.locator("rect[data-head]")
    cells.first.wait_for()
    assert cells.count() == 12
    assert not explorer.get_by_role("heading").is_visible()

    def look_at(head: str, name: str):
        explorer.locator(f'rect[data-head="{head}"]').click()
        page.locator(f'.ih-explorer[data-shown="{name}"]').wait_for()

    look_at("1,2", "L1H2")
    explorer.locator(".ih-alone").filter(has_text="nats per token").wait_for()
    pattern = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    canvas = explorer.locator("canvas")
    first = canvas.evaluate(pattern)
    assert len(first) == 4 * 11 * 11
    assert all(
        (first[4 * (11 * q + k) + 3] == 255) == (k <= q) for q in range(11) for k in range(11)
    )
    assert explorer.locator(".ih-tokens").inner_text() == "the cat sat on a mat and the dog ran far"
    assert explorer.locator(".ih-strip").count() == 6
    # The notebook's own keys do not take the arrows away.
    explorer.locator(".ih-heads").press("ArrowRight")
    page.locator('.ih-explorer[data-shown="L1H3"]').wait_for()
    assert canvas.evaluate(pattern) != first

    explorer.get_by_role("button", name="Add to the selection").click()
    explorer.locator('rect[data-head="0,1"]').click(modifiers=["Shift"])
    explorer.get_by_role("button", name="Zero 2 heads").click()
    loss = explorer.locator(".ih-loss")
    loss.filter(has_text="nats per token").wait_for()
    before, after = map(float, re.search(r"([\d.]+) → ([\d.]+)", loss.inner_text()).groups())
    assert before != after
    assert explorer.locator(".ih-strip").count() == 7

    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(2)
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    cell.get_by_text("looked at (1, 3) selected [(0, 1), (1, 3)]").wait_for()
    page.close()
