"""Which tests are about a line: by their place, and by the names that they mention."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutations import Mutation

ROOT = Path(__file__).parents[1]
LATE = re.compile(r"explorer|plots|report|cli|benchmarks|notebooks|docs|structure|families|gemma")
"""Tests that take long and are seldom about one line."""

FEW = 4
"""A name that no more test files mention is taken to be what they are about."""


class Nearness:
    """Which test files are about a module, and which test functions about a line of it.

    Args:
        without: test files that are left out.
    """

    def __init__(self, without: set[str]) -> None:
        package = ROOT / "inactive_heads"
        self.names: dict[str, set[str]] = {}
        self.imports: dict[str, set[str]] = {}
        for file in package.rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            path = str(file.relative_to(ROOT))
            self.names[path] = set(_defined(tree))
            self.imports[path] = {
                str(Path(*node.module.split(".")).with_suffix(".py"))
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("inactive_")
            }
        self.words: dict[str, set[str]] = {}
        self.functions: dict[tuple[str, str], set[str]] = {}
        for file in (ROOT / "tests").rglob("test_*.py"):
            if (test := str(file.relative_to(ROOT))) not in without:
                text = file.read_text("utf-8")
                self.words[test] = set(re.findall(r"\w+", text))
                for name, own in _test_functions(text):
                    self.functions[test, name] = _pieces(own)
        self.uses = Counter(word for words in self.functions.values() for word in words)
        self.files = Counter(word for words in self.words.values() for word in words)

    def tests(self, path: str) -> list[str]:
        """The test files in which a fault of a file may show, the nearest first."""
        module = Path(path)
        users, level = {path: 1.0}, {path}
        for step in (1, 2, 3):  # who uses it, and who uses those
            level = {user for user, used in self.imports.items() if used & level} - users.keys()
            users |= dict.fromkeys(level, 0.25**step)
        near = {}
        for test, words in self.words.items():
            place = Path(test)
            # A rare name says more than many that half the tests mention.
            shared = [(weight, len(self.names[user] & words)) for user, weight in users.items()]
            near[test] = sum(weight * min(n, 4) for weight, n in shared)
            if place.parent.relative_to("tests") == module.parent.relative_to("inactive_heads"):
                near[test] += 2
                near[test] += 20 * (place.stem == f"test_{module.stem}")
            near[test] *= 0.1 if LATE.search(test) and not LATE.search(path) else 1
        return sorted((test for test in near if near[test] > 0), key=near.get, reverse=True)

    def files_about(self, fault: Mutation) -> list[str]:
        """The test files that mention a name on a fault's line, or around it, as few others do.

        Args:
            fault: the fault.

        Returns:
            The files, those with the rarest name first.
        """
        names = {name for text in line_and_names(fault) for name in re.findall(r"\w+", text)}
        rare = [name for name in names if 0 < self.files[name] <= FEW and not name.isnumeric()]
        found = {
            test: min(self.files[name] for name in rare if name in words)
            for test, words in self.words.items()
            if words & set(rare)
        }
        return sorted(found, key=found.get)

    def functions_about(self, fault: Mutation, number: int) -> list[tuple[str, str]]:
        """The test functions that share the most rare words with a fault's line and function.

        Args:
            fault: the fault.
            number: the most functions to return.

        Returns:
            File and name of each, the nearest first.
        """
        line, around = (_pieces(text) for text in line_and_names(fault))
        places = {file: place for place, file in enumerate(self.tests(fault.path))}
        near = {}
        for function, words in self.functions.items():
            file = function[0]
            rare = {word: 1 / self.uses[word] for word in (line | around) & words}
            doubled = sum(rare[word] for word in around & words)
            if rare and file in places and not LATE.search(file):
                # Words in a near file mean what they mean in the fault's own.
                spread = math.sqrt(len(words) * (1 + places[file]))
                near[function] = (sum(rare.values()) + doubled) / spread
        return sorted(near, key=near.get, reverse=True)[:number]


def line_and_names(fault: Mutation) -> tuple[str, str]:
    """The line of a fault, and the names of the function and class in which it stands."""
    source = (ROOT / fault.path).read_text("utf-8")
    around = [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.lineno <= fault.line <= node.end_lineno
    ]
    return source.splitlines()[fault.line - 1], " ".join(around)


def _pieces(text: str) -> set[str]:
    """The words of a text, and the parts of names that are written with underscores."""
    words = set(re.findall(r"\w+", text.lower()))
    return {part for word in words for part in (word, *word.split("_")) if len(part) > 3}


def _test_functions(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            yield node.name, "\n".join(lines[first - 1 : node.end_lineno])


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            methods = (one.name for one in node.body if isinstance(one, ast.FunctionDef))
            yield from (name for name in methods if len(name) > 6 and not name.startswith("__"))
