"""The code of README, CONTRIBUTING and docs does what the pages say; commands are understood."""

import importlib.util
import re
import shlex
from itertools import islice

import numpy as np
import pytest
import typer
from helpers.places import CLAIMS, ROOT

import inactive_heads as ih
from inactive_heads.cli.app import app

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"\$ (inactive-heads|python -m inactive_heads\.report)(?: (.*))?$")


@pytest.fixture
def registry():
    """The registry, put back as it was."""
    from inactive_heads.scores.registry import REGISTRY

    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_does_what_the_page_says(
    page, tmp_path, monkeypatch, demo_model, registry
):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in BLOCK.findall(page.read_text("utf-8")):
        exec(compile(block, str(page), "exec"), namespace)
    claims = CLAIMS / f"{page.stem}.py"
    if claims.exists():
        exec(compile(claims.read_text("utf-8"), str(claims), "exec"), namespace)


def test_every_page_with_results_has_its_claims_tested():
    showing = {page.stem for page in PAGES if "print(" in "".join(BLOCK.findall(page.read_text()))}
    tested = {file.stem for file in CLAIMS.glob("*.py")}
    assert showing - {"CONTRIBUTING"} <= tested, "CONTRIBUTING asserts in its own code"
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert tested <= {page.stem for page in PAGES} | notebooks, "claims of pages that are gone"


def commands():
    """(page, arguments) of every command of ours in a console block of the pages."""
    for page in PAGES:
        for block in CONSOLE.findall(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                if found := OURS.match(line):
                    words = shlex.split(found[2] or "", comments=True)
                    yield page.name, words if found[1] == "inactive-heads" else ["report", *words]


@pytest.mark.parametrize(("page", "words"), list(commands()), ids=lambda value: str(value)[:60])
def test_a_command_of_the_pages_has_the_options_it_says(page, words):
    """Parsed as the command line parses it, and not run: options exist and take such values."""
    top = typer.main.get_command(app)
    name, *rest = words
    command = top.get_command(None, name)
    assert command is not None, f"{page}: inactive-heads has no command {name!r}"
    if "--help" not in rest:
        command.make_context(name, rest)


def test_options_that_do_not_exist_are_noticed():
    command = typer.main.get_command(app).get_command(None, "report")
    with pytest.raises(Exception, match="--no-such"):
        command.make_context("report", ["gpt2", "--no-such", "3"])


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_pictures_show_what_the_page_of_scores_says_of_them(demo_model):
    """Two heads of one layer: the inactive one attends to the first token, and little comes out."""
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs/make_pictures.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    texts = [demo_model.encode(text)[:200] for text in ih.load_texts(n=3)]
    figures = dict(islice(made.pictures(demo_model, texts), 5))  # but the last, a sweep
    inactive, active = (np.array(trace.z, float) for trace in figures["attention"].data)
    np.testing.assert_allclose(np.nansum(inactive, axis=1), 1, rtol=1e-5)
    assert inactive[:, 0].mean() > 0.9 > active[:, 0].mean()
    norms = [np.array(trace.y) for trace in figures["norms"].data]
    assert len(norms) == 4  # v and z of either
    assert norms[2].max() < norms[3].max() / 2
    assert len(figures["every_head"].data) == 7
    for name in figures:
        assert (ROOT / "docs" / f"{name}.png").exists()
