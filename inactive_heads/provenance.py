"""Package versions and timestamps, saved with results."""

from __future__ import annotations

import datetime
import importlib.metadata


def versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on.

    Returns:
        A flat dictionary of attributes, such as ``version_torch``.
    """
    packages = ("inactive-heads", "torch", "transformers", "transformer-lens", "numpy")
    return {f"version_{name}": importlib.metadata.version(name) for name in packages}


def now() -> str:
    """The current time.

    Returns:
        UTC as ISO 8601, to the second: "2026-01-31T12:00:00+00:00".
    """
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
