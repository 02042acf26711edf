"""How the package is laid out: folders import one way, files stay small, tools see every name."""

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from helpers.places import ROOT
from helpers.source import PACKAGE, circle, import_graph, public_names

import inactive_heads as ih

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({file.parent for file in FILES})


def run_python(*arguments, cwd=ROOT):
    """Python in a process of its own, on a terminal too wide to wrap a line."""
    environment = {**os.environ, "COLUMNS": "250", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8")


def lint_imports(folder):
    pytest.importorskip("importlinter", reason="import-linter is missing: the extra `lint` has it")
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    return run_python("-c", command, "--no-cache", cwd=folder)


def test_folders_import_one_way():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


UPWARDS = "from inactive_heads.sweeps.grid import Grid\n"
WRONG_IMPORTS = {
    "upwards": (
        "scores/paper.py",
        UPWARDS,
        "inactive_heads.scores.paper -> inactive_heads.sweeps.grid",
    ),
    "upwards, for types": (
        "core/batch.py",
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {UPWARDS}",
        "inactive_heads.core.batch -> inactive_heads.sweeps.grid",
    ),
    "upwards, beside the exception": (
        "report/__main__.py",
        "import inactive_heads.cli.app\n",
        "inactive_heads.report.__main__ -> inactive_heads.cli.app",
    ),
    "torch, in a function": (
        "plots/curves.py",
        "def draw():\n    import torch\n",
        "inactive_heads.plots.curves -> torch",
    ),
    "torch, through another module": (
        "errors.py",
        "import torch\n",
        "inactive_heads.errors -> torch",
    ),
    "circle": (
        "engines/base.py",
        "import inactive_heads.engines.flash\n",
        "No cycles are allowed in inactive_heads.engines.",
    ),
    "the package itself": (
        "tasks/prompt.py",
        "from inactive_heads import sweep\n",
        "inactive_heads.tasks.prompt -> inactive_heads (",
    ),
    "folder without a layer": ("extras/__init__.py", "", "- inactive_heads.extras"),
}


@pytest.mark.parametrize(("file", "code", "named"), WRONG_IMPORTS.values(), ids=WRONG_IMPORTS)
def test_a_wrong_import_is_named(file, code, named, tmp_path):
    for source in [*FILES, ROOT / "pyproject.toml"]:
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    changed = tmp_path / "inactive_heads" / file
    changed.parent.mkdir(exist_ok=True)
    with changed.open("a", encoding="utf-8") as end:
        end.write(f"\n{code}")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert named in done.stdout


def layers():
    """The (level, name) of every folder and module of the contract, from 1 at the top."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = [
        each for each in config["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    ]
    levels = [re.split(r"[|:]", layer) for layer in contract["layers"]]
    return [(level, name.strip()) for level, names in enumerate(levels, 1) for name in names]


def test_the_page_of_the_design_has_the_layers_of_the_contract():
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)(?:/|\.py)` \| \S", page, re.MULTILINE)
    assert [(int(level), name) for level, name in rows] == layers()


def test_the_picture_of_the_design_has_the_layers_of_the_contract():
    picture = (ROOT / "docs" / "design.svg").read_text("utf-8")
    assert re.findall(r'class="folder"[^>]*>(\w+)<', picture) == [name for _, name in layers()]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_the_files_that_a_page_names_are_there(page):
    """Named from the root of the project or of the package, as in `scores/paper.py` or `core/`."""
    text = (ROOT / page).read_text("utf-8")
    named = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text)
    assert len(named) > 10
    assert [
        name for name in named if not any((top / name).exists() for top in (ROOT, PACKAGE))
    ] == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(import_graph(PACKAGE)) == []


@pytest.mark.parametrize(
    "back",
    [
        "import house.up.stairs",
        "from ..up import stairs",
        "from ..up.stairs import step",
        "def late():\n    from house.up import stairs",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.up.stairs import step",
    ],
)
def test_a_circle_is_seen_wherever_its_imports_stand(back, tmp_path):
    house = tmp_path / "house"
    for name, code in {
        "__init__": "",
        "up/__init__": "",
        "up/stairs": "from house.down.cellar import floor",
        "down/__init__": "",
        "down/cellar": "floor = 0",
    }.items():
        file = house / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    assert circle(import_graph(house)) == []
    (house / "down" / "cellar.py").write_text(back)
    assert set(circle(import_graph(house))) == {"house.up.stairs", "house.down.cellar"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_is_one_idea(folder):
    """It says which, and holds so little that a reader finds what they look for."""
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
    assert len([file for file in folder.glob("*.py") if file.stem != "__init__"]) <= 12


def test_modules_are_short():
    lines = {str(file.relative_to(ROOT)): file.read_text("utf-8").count("\n") for file in FILES}
    assert {name: n for name, n in lines.items() if n > 350} == {}


def test_no_folder_hides_a_public_name():
    """Importing a module ``inactive_heads.evaluate`` would replace the function of that name."""
    inside = {path.stem for path in PACKAGE.iterdir()}
    made_elsewhere = {name for name, module in public_names().items() if module is not None}
    assert len(made_elsewhere) > 40
    assert made_elsewhere & inside == set()


def test_the_stub_is_what_the_package_offers():
    names = set(public_names())
    assert set(dir(ih)) == names
    assert [name for name in names if not hasattr(ih, name)] == []
    everything = {}
    exec("from inactive_heads import *", everything)
    assert set(everything) - {"__builtins__"} == names


USER_SCRIPT = """\
import inactive_heads as ih

model = ih.load_model(dtype="float32")
task = ih.load_task("quiz", limit=20)
scores = ih.score_heads(model, ["The cat sat on the mat."])
typo = ih.score_heds(model, ["The cat sat on the mat."])
figure = ih.plots.head_heatmap(scores.sel(score="AHON").mean("sample"))
curves = ih.sweep(model, task, mode="per-input")
wrong = ih.sweep(model, task, mode="per-inputs")
print(typo, figure, curves, wrong)
"""


def test_a_type_checker_sees_a_users_mistakes(tmp_path):
    pytest.importorskip("mypy", reason="mypy is missing: the extra `lint` has it")
    script = tmp_path / "script.py"
    script.write_text(USER_SCRIPT)
    # With the cache of `make lint`: without one, mypy reads all of torch first, for a minute.
    done = run_python("-m", "mypy", "--no-pretty", "--no-error-summary", str(script))
    found = re.findall(r"script\.py:(\d+): error: (.*)  \[([a-z-]+)\]", done.stdout)
    assert len(done.stdout.splitlines()) == len(found) == 2, done.stdout + done.stderr
    (typo, typo_says, typo_kind), (mode, mode_says, mode_kind) = found
    assert (typo, typo_kind) == ("6", "attr-defined")
    assert '"score_heds"' in typo_says
    assert (mode, mode_kind) == ("9", "arg-type")
    assert '"mode"' in mode_says


def test_an_editor_completes_the_public_names():
    import jedi

    script = jedi.Script("import inactive_heads as ih\nih.", project=jedi.Project(ROOT))
    assert set(public_names()) - {found.name for found in script.complete(2, 3)} == set()


def test_what_loads_a_model_does_not_wait_for_what_draws():
    done = run_python("-c", "import sys, inactive_heads as ih; ih.load_model; print(*sys.modules)")
    loaded = set(done.stdout.split())
    assert "inactive_heads.models.load" in loaded, done.stderr
    assert loaded & {"transformer_lens", "plotly", "pandas"} == set()


MODEL_OPTIONS = {
    *("engine", "dtype", "device", "device_map", "revision", "tokenizer", "bos"),
    *("chat_template", "trust_remote_code"),
}


def names_together(node):
    """The names that stand together in a signature, a class, a dictionary or a call."""
    match node:
        case ast.FunctionDef(args=given) | ast.AsyncFunctionDef(args=given):
            return {each.arg for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]}
        case ast.ClassDef(body=body):
            targets = [each.target for each in body if isinstance(each, ast.AnnAssign)]
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.Dict(keys=keys):
            return {key.value for key in keys if isinstance(key, ast.Constant)}
        case ast.Call(keywords=keywords):
            return {keyword.arg for keyword in keywords}
    return set()


def all_but_provenance(node):
    """A node and all below it, without what a model's provenance says of how it was loaded."""
    if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "provenance":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from all_but_provenance(child)


def lists_of_model_options():
    """The functions and classes in which at least four of a model's options stand together."""
    for file in FILES:
        for place in ast.parse(file.read_text("utf-8")).body:
            nodes = all_but_provenance(place)
            if any(len(names_together(node) & MODEL_OPTIONS) >= 4 for node in nodes):
                yield getattr(place, "name", f"{file.relative_to(ROOT)}:{place.lineno}")


def test_a_models_options_are_listed_once():
    """Whoever passes them on holds a `ModelSpec`.

    `load_model` takes them one by one, and the keys of a preset are a file format of its own.
    """
    assert sorted(lists_of_model_options()) == ["ModelSpec", "Preset", "load_model"]


def test_a_reports_options_are_few():
    from inactive_heads.report.options import ReportOptions

    assert len(dataclasses.fields(ReportOptions)) <= 15


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name, times in names.items() if times > 1} == set()
