"""The code of README, CONTRIBUTING and docs runs as a reader would run it; commands are understood."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from inactive_heads.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"\$ (inactive-heads|python -m inactive_heads\.report)(?: (.*))?$")


@pytest.fixture
def registry():
    """The registry, put back as it was."""
    from inactive_heads.scores import REGISTRY

    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, demo_model, registry):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in BLOCK.findall(page.read_text("utf-8")):
        exec(compile(block, str(page), "exec"), namespace)


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
