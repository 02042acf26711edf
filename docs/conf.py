"""How Sphinx builds these pages: `make docs`, warnings as errors, no network."""

import inspect
import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml
from typer.testing import CliRunner

import inactive_heads
from inactive_heads.cli.app import app as command_line

project = "inactive_heads"
author = "The inactive_heads developers"
project_copyright = f"2026, {author}"
version = release = version_of("inactive-heads")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = True

html_theme = "furo"
html_title = "inactive_heads"
html_static_path = ["_static"]
html_css_files = ["own.css"]
html_show_sphinx = False
html_math_renderer = "mathml"
templates_path: list[str] = []

default_role = "py:obj"  # `load_model` in a docstring is a link to it
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def examples_as_code(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]):
    """An indented block after a blank line is an example: the docstrings' way of showing code."""
    given, lines[:] = list(lines), []
    inside = False
    for place, line in enumerate(given):
        indented = line.startswith("    ")
        before = [one for one in given[:place] if one.strip()]
        starts = indented and place and not given[place - 1].strip() and before
        if starts and not inside and not before[-1].startswith(" "):
            lines += [".. code-block:: python", ""]
            inside = True
        elif line.strip() and not indented:
            inside = False
        lines.append(line)


def formula(self: Any, node: nodes.math) -> None:
    """A formula as MathML, which browsers show by themselves: pages are read offline."""
    self.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def public_interface() -> str:
    """Every public name under the comment that stands above it in the package's stub."""
    stub = Path(inactive_heads.__file__).with_suffix(".pyi").read_text("utf-8")
    lines = []
    for line in stub.split("\n"):
        if line.startswith("# "):
            lines.append(f"## {line[2].upper()}{line[3:]}\n")
        for name in re.findall(r"(\w+) as \w+", line):
            if inspect.ismodule(found := getattr(inactive_heads, name)):
                continue
            kind = "class" if inspect.isclass(found) else "function" if callable(found) else "data"
            members = "   :members:\n" if kind == "class" else ""
            directive = f".. auto{kind}:: inactive_heads.{name}\n{members}"
            lines.append(f"```{{eval-rst}}\n{directive}```\n")
    return "\n".join(lines)


def fill_reference(app: Any, page: str, source: list[str]) -> None:
    """Puts the public interface where the page of reference has its mark."""
    source[0] = source[0].replace("<!-- public interface -->", public_interface())


class CommandHelp(Directive):
    """What a command of the command line prints with ``--help``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The text, as it is."""
        plain = {"TERMINAL_WIDTH": "100", "NO_COLOR": "1", "COLUMNS": "100"}
        shown = CliRunner().invoke(command_line, [self.arguments[0], "--help"], env=plain)
        assert shown.exit_code == 0, shown.output
        return [nodes.literal_block(shown.output, shown.output, language="text")]


def setup(app: Any) -> None:
    """Connects what is above."""
    app.connect("source-read", fill_reference)
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", examples_as_code, priority=400)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(formula, None), block_renderers=(formula, None)
    )
