"""Which attention heads of a language model do nothing, and how do you know?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inactive_heads.api import *  # noqa: F403
    from inactive_heads.api import __all__ as __all__


def __getattr__(name: str) -> Any:
    """All is imported when something is first asked for: a command's help should not wait for torch."""
    if not name.startswith("__") or name == "__all__":
        api = import_module("inactive_heads.api")
        if hasattr(api, name):
            return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(import_module("inactive_heads.api").__all__)
