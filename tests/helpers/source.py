"""The package's source, read and not imported: its modules, what each imports, its public names."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from helpers.places import ROOT

PACKAGE = ROOT / "inactive_heads"


def modules(package: Path) -> dict[str, list[Path]]:
    """The files of every module of a package by its dotted name; a stub belongs to its module."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        *folders, name = path.relative_to(package.parent).with_suffix("").parts
        parts = folders if name == "__init__" else [*folders, name]
        found.setdefault(".".join(parts), []).append(path)
    return found


def import_graph(package: Path) -> dict[str, set[str]]:
    """Which of the package's modules each one imports, wherever in its code the import stands."""
    files = modules(package)
    return {
        name: {target for path in paths for target in _imports(name, path, set(files))}
        for name, paths in files.items()
    }


def _imports(name: str, path: Path, known: set[str]) -> Iterator[str]:
    folder = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from known.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                yield from known & {submodule if submodule in known else source}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, each importing the next; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def public_names() -> dict[str, str | None]:
    """What the stub of the package offers: each name, and the module it is imported from."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
    return {
        alias.asname or alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
