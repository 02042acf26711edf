"""Models that only TransformerLens can show: flash is made to refuse all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inactive_heads.engines.routing.refusals import Unsupported
from inactive_heads.models.choose_engine import ENGINES


def refuse_flash(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Makes flash refuse every model.

    Returns:
        The attention implementation and the name of every model that it has refused since.
    """
    refused = []

    def build(network, name):
        refused.append((network.config._attn_implementation, name))
        raise Unsupported("it is a test")

    monkeypatch.setitem(ENGINES, "flash", replace(ENGINES["flash"], build=build))
    return refused
