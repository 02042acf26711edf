"""Progress bars on terminals and in notebooks, with time left; none where nobody looks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from tqdm.notebook import tqdm


@runtime_checkable
class Advance(Protocol):
    """Says how much was done since the last call."""

    def __call__(self, done: int, /) -> None: ...


class Board:
    """What a sweep shows while it runs: a bar, and a table of the points that are known."""

    def __init__(self, title: str, total: int, names: Sequence[str], shares: Sequence[float]):
        self._bar = _bar()
        self._task = self._bar.add_task(title, total=total)
        self._title, self._names, self._shares = title, names, shares
        self._cells: dict[tuple[str, float], str] = {}

    def advance(self, done: int, /) -> None:
        """Say how many tokens were run since the last call."""
        self._bar.update(self._task, advance=done)

    def put(self, name: str, percent: float, row: Mapping[str, Any]) -> None:
        """Show a point of the sweep: its accuracy, or its loss."""
        accuracy, loss = row.get("accuracy"), row.get("loss")
        self._cells[name, percent] = f"{loss:.3f}" if accuracy is None else f"{accuracy:.1f}%"

    def __rich__(self) -> Group:
        table = Table()
        table.add_column(f"{self._title}, heads zeroed:")
        for share in self._shares:
            table.add_column(f"{share:g}%", justify="right")
        for name in self._names:
            table.add_row(name, *(self._cells.get((name, share), "") for share in self._shares))
        return Group(table, self._bar)


@contextmanager
def sweep_board(
    title: str, total: int, names: Sequence[str], shares: Sequence[float], *, show: bool = True
) -> Iterator[Board]:
    """A `Board` that is kept up to date on a terminal while its block runs."""
    board, console = Board(title, total, names, shares), Console(stderr=True)
    if not (show and console.is_terminal):
        yield board
        return
    with Live(board, console=console, refresh_per_second=4):
        yield board


@contextmanager
def progress_bar(description: str, total: int, *, show: bool = True) -> Iterator[Advance]:
    """A bar that counts to ``total`` while its block runs; the block calls what it is given."""
    console = Console(stderr=True)
    if show and console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None:
        with tqdm(desc=description, total=total, leave=False) as widget:
            yield lambda done, /: widget.update(done)
        return
    with _bar(console=console, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task(description, total=total)

        def advance(done: int, /) -> None:
            bar.update(task, advance=done)

        yield advance


def _bar(**options: Any) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        **options,
    )
