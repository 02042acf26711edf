"""Versions and times that are kept with results."""

from __future__ import annotations

import datetime
import importlib.metadata


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, as flat attributes."""
    packages = ("inactive-heads", "torch", "transformers", "transformer-lens", "numpy")
    return {f"version_{name}": importlib.metadata.version(name) for name in packages}


def now() -> str:
    """The time, UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
