"""Which block of a list runs at the moment, whatever modules blocks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class Running(list[int]):
    """The places of the blocks that are running, outermost first."""

    @property
    def block(self) -> int:
        return self[0]


class _Watched(nn.Module):
    def __init__(self, block: nn.Module, at: int, running: Running) -> None:
        super().__init__()
        self.block, self._at, self._running = block, at, running

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self._running.append(self._at)
        output = self.block(*args, **kwargs)
        self._running.pop()
        return output


@contextmanager
def running(blocks: nn.ModuleList) -> Iterator[Running]:
    """A context in which every item of a list is a module of its own that tells when it runs."""
    now, before = Running(), list(blocks)
    for at, block in enumerate(before):
        blocks[at] = _Watched(block, at, now)
    try:
        yield now
    finally:
        for at, block in enumerate(before):
            blocks[at] = block
