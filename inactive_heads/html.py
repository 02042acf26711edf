"""The package's templates, and the style sheets and scripts that pages hold as they are."""

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


def as_json(value: object) -> str:
    """JSON for a ``<script>`` element: no ``<``, no NaN, five significant digits."""
    text = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    # Inside a script only "<" can end it early; the others cost little and please scanners.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def plain(value: Any) -> Any:
    """The value as JSON knows it: None for what is not finite, five significant digits."""
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
