"""The package's templates, and the style sheets and scripts that pages hold as they are."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Where templates are found; whatever they are given is shown as text."""
    # Autoescape is on for every file: jinja's own choice goes by the ending, and misses ".j2".
    loader = PackageLoader("inactive_heads", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@cache
def source(name: str) -> str:
    """A stylesheet or script of the package as it is, not read as a template."""
    found = environment().loader
    assert found is not None
    return found.get_source(environment(), name)[0]
