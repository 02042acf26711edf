"""Progress bars on standard error, with time left; none where nobody looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@runtime_checkable
class Advance(Protocol):
    """Says how much was done since the last call, and on what (where it changes)."""

    def __call__(self, done: int, /, what: str | None = None) -> None: ...


@contextmanager
def progress_bar(description: str, total: int, *, show: bool = True) -> Iterator[Advance]:
    """A bar that counts to ``total`` while its block runs; the block calls what it is given."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task(description, total=total)

        def advance(done: int, /, what: str | None = None) -> None:
            bar.update(task, advance=done, description=what or description)

        yield advance
