"""HTML: the package's templates, the style sheets and scripts inlined in pages, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """The Jinja environment of the package's templates, made once.

    Returns:
        An environment that escapes every value (a `markupsafe.Markup` excepted) and raises
        `jinja2.UndefinedError` for a missing one.
    """
    # Autoescape is set for every file: Jinja's own choice goes by the extension and misses ".j2".
    loader = PackageLoader("inactive_heads", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@cache
def source(name: str) -> str:
    """The text of a style sheet or script, not rendered as a template.

    Args:
        name: a file in the package's folder ``templates``, such as "report.css".

    Returns:
        The file's content.

    Raises:
        jinja2.TemplateNotFound: there is no such file.
    """
    loader = environment().loader
    assert loader is not None
    return loader.get_source(environment(), name)[0]


def as_json(value: object) -> str:
    """A value as JSON that can stand inside a ``<script>`` element.

        as_json({"x": np.float32(1 / 3), "y": float("nan")})  # '{"x":0.33333,"y":null}'

    Args:
        value: anything that `plain` takes.

    Returns:
        Compact JSON; ``<``, ``>`` and ``&`` are written as escapes such as ``\\u003c``.
    """
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    # Only "<" can end a script early; escaping the others satisfies security scanners.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def plain(value: Any) -> Any:
    """The value converted to JSON's types.

    Args:
        value: mappings, lists, tuples, NumPy arrays and numbers, nested; anything else becomes a
            string.

    Returns:
        Dictionaries with string keys, lists, booleans, integers, floats rounded to five
        significant digits, strings, and None for NaN, infinity and None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value if value is None else str(value)
