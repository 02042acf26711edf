"""Progress bars with the time left, on terminals and in notebooks; elsewhere nothing is shown."""

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
    """A callback that reports progress."""

    def __call__(self, done: int, /) -> None:
        """Report progress.

        Args:
            done: how much was done since the last call, in the unit of the bar's total.
        """
        ...


class Board:
    """The display of a running sweep: a progress bar above which finished points fill a table.

    Args:
        title: the task's name, shown at the bar and in the table's header.
        total: tokens that the sweep will run.
        names: the score functions, one row each.
        percents: percentages of heads zeroed, one column each.
    """

    def __init__(self, title: str, total: int, names: Sequence[str], percents: Sequence[float]):
        self._bar = _bar()
        self._task = self._bar.add_task(title, total=total)
        self._title, self._names, self._percents = title, names, percents
        self._cells: dict[tuple[str, float], str] = {}

    def advance(self, done: int, /) -> None:
        """Move the bar forward.

        Args:
            done: tokens run since the last call.
        """
        self._bar.update(self._task, advance=done)

    def put(self, name: str, percent: float, row: Mapping[str, Any]) -> None:
        """Show a finished point of the sweep in the table.

        Args:
            name: the score function.
            percent: percentage of heads zeroed, one of the board's columns.
            row: the point's row of the curves: ``accuracy`` (in %) is shown, or else ``loss``
                (nats per token).
        """
        accuracy, loss = row.get("accuracy"), row.get("loss")
        self._cells[name, percent] = f"{loss:.3f}" if accuracy is None else f"{accuracy:.1f}%"

    def __rich__(self) -> Group:
        table = Table()
        table.add_column(f"{self._title}, heads zeroed:")
        for percent in self._percents:
            table.add_column(f"{percent:g}%", justify="right")
        for name in self._names:
            cells = (self._cells.get((name, percent), "") for percent in self._percents)
            table.add_row(name, *cells)
        return Group(table, self._bar)


@contextmanager
def sweep_board(
    title: str, total: int, names: Sequence[str], percents: Sequence[float], *, show: bool = True
) -> Iterator[Board]:
    """A context that shows a `Board` on the terminal while its block runs.

    Args:
        title: the task's name.
        total: tokens that the sweep will run.
        names: the score functions, one row each.
        percents: percentages of heads zeroed, one column each.
        show: False shows nothing, as happens anyway if standard error is not a terminal.

    Yields:
        The board; it takes updates even if it is not shown.
    """
    board, console = Board(title, total, names, percents), Console(stderr=True)
    if not (show and console.is_terminal):
        yield board
        return
    with Live(board, console=console, refresh_per_second=4):
        yield board


@contextmanager
def progress_bar(description: str, total: int, *, show: bool = True) -> Iterator[Advance]:
    """A context that shows a progress bar while its block runs.

        with progress_bar("Scoring heads", total=3) as advance:
            for _ in range(3):
                advance(1)

    Args:
        description: the text before the bar.
        total: where the bar ends, in any unit.
        show: False shows nothing, as happens anyway if standard error is neither a terminal nor
            a notebook.

    Yields:
        A function to call with the amount done since the last call.
    """
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
