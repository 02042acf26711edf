"""Package versions, timestamps and attributes that are saved with results."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any


def versions() -> dict[str, str]:
    """The version of Python, and of the packages that results depend on.

    Returns:
        A flat dictionary of attributes, such as ``version_torch``; "not installed" for a package
        that is not.
    """
    python = {"version_python": platform.python_version()}
    packages = ("inactive-heads", "torch", "transformers", "transformer-lens", "numpy")
    return python | {f"version_{name}": _version(name) for name in packages}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def as_attrs(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance as the attributes of a labelled array, which is then saved as NetCDF.

    Args:
        provenance: where a model comes from and how it was loaded.

    Returns:
        The same values. ``dtype`` is called ``model_dtype``: NetCDF keeps the first name for itself.
    """
    return {"model_dtype" if name == "dtype" else name: provenance[name] for name in provenance}


def now() -> str:
    """The current time.

    Returns:
        UTC as ISO 8601, to the second: "2026-01-31T12:00:00+00:00".
    """
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
