"""What the sections of a page are made of: tables of cells and charts, with when each is shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and the number (or text) it is sorted by."""

    text: str
    key: float | str


@dataclass(frozen=True)
class Shown:
    """The choices of model, score and share for which a part is shown; None is any."""

    model: str | None = None
    score: str | None = None
    percent: float | None = None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and saved.

    ``csv`` holds its numbers with more digits. A ``late`` table has no rows of its own: when a
    reader first sees it they are made of ``csv``, whose columns are then those of the table, with
    numbers written as ``styles`` say ("" for text). A ``folded`` one has to be opened.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    csv: str
    note: str = ""
    shown: Shown = Shown()
    folded: bool = False
    late: bool = False
    styles: Sequence[str] = ()
    kind: str = "table"


@dataclass(frozen=True)
class Chart:
    """A figure that can be saved; ``wide`` ones scroll sideways where there is little room."""

    title: str
    figure: go.Figure
    note: str = ""
    shown: Shown = Shown()
    wide: bool = False
    kind: str = "chart"


@dataclass(frozen=True)
class Section:
    """A heading, what stands under it, and how to read that."""

    name: str
    title: str
    parts: Sequence[Table | Chart]
    how: str


Columns = Mapping[str, tuple[str, str]]
"""Column of a frame → its title, and how a number in it is written ("" for text)."""


def frame_table(
    title: str,
    frame: pd.DataFrame,
    columns: Columns,
    *,
    folded: bool = False,
    late: bool = False,
    **more: Any,
) -> Table:
    """The table of a frame's columns, in the order of ``columns``; ``more`` is as in `Table`.

    Folded tables are late ones, too.
    """
    titles = [heading for heading, _ in columns.values()]
    styles = [style for _, style in columns.values()]
    if folded or late:
        saved = as_csv(frame[list(columns)])
        return Table(title, titles, (), saved, folded=folded, late=True, styles=styles, **more)
    rows = [
        [cell(row[name], style) for name, style in zip(columns, styles, strict=True)]
        for _, row in frame.iterrows()
    ]
    return Table(title, titles, rows, as_csv(frame), **more)


def as_csv(frame: pd.DataFrame) -> str:
    """The frame as CSV, numbers with eight significant digits."""
    return frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def frame_of(values: xr.DataArray, rows: str, columns: str) -> pd.DataFrame:
    """An array of two dims as a frame, named by its coordinates where it has them."""
    grid = values.transpose(rows, columns)
    index = pd.Index(grid[rows].to_numpy(), name=rows)
    return pd.DataFrame(grid.to_numpy(), index=index, columns=list(grid[columns].to_numpy()))


def cell(value: Any, style: str) -> Cell:
    """A cell of text where ``style`` is empty, else of a number so written."""
    return number(float(value), style) if style else Cell(str(value), str(value))


def number(value: float, style: str = ".3g") -> Cell:
    """A number with a true minus sign; a dash where it is not known."""
    text = f"{value:{style}}".replace("-", "−") if np.isfinite(value) else "–"
    return Cell(text, float(value))


def plain_figure(figure: go.Figure) -> dict[str, Any]:
    """A figure's data and layout without its look: the page's follows the reader's theme."""
    found: dict[str, Any] = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return {"data": [_narrow(trace) for trace in found["data"]], "layout": found["layout"]}


def _narrow(value: Any) -> Any:
    """A trace with its float64 arrays, which plotly packs as base64, as float32."""
    if isinstance(value, dict):
        if value.get("dtype") == "f8" and "bdata" in value:
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), dtype="<f8").astype("<f4")
            packed = base64.b64encode(numbers.tobytes()).decode("ascii")
            return {**value, "dtype": "f4", "bdata": packed}
        return {key: _narrow(item) for key, item in value.items()}
    return value


def square_table(title: str, table: pd.DataFrame, shown: Shown | None = None) -> Table:
    """A square table of numbers, folded: the numbers behind a heatmap."""
    frame = table.rename_axis(index=None, columns=None)
    corner = str(table.index.name or "score")
    frame = frame.reset_index(names=corner)
    columns = {corner: (corner, "")} | {name: (str(name), ".3f") for name in table.columns}
    return frame_table(title, frame, columns, folded=True, shown=shown or Shown())


def group_title(keys: tuple[Any, ...], several_models: bool) -> str:
    """What a table or chart of one (model, task, mode) is called."""
    model, task, mode = (str(key) for key in keys)
    return ", ".join([*([model] if several_models else []), task, mode])
