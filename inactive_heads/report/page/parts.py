"""Building blocks of the page's sections: tables and charts, and the choices each is shown for."""

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
    """A cell of a table.

    Attributes:
        text: what is shown.
        key: the number or text that the cell is sorted by.
    """

    text: str
    key: float | str


@dataclass(frozen=True)
class Shown:
    """The choices on the page for which a part is shown.

    Attributes:
        model: the label of a model; None for any.
        score: the name of a score; None for any.
        percent: the percent of heads; None for any.
    """

    model: str | None = None
    score: str | None = None
    percent: float | None = None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and saved.

    Attributes:
        title: its title.
        columns: the headings of its columns.
        rows: its cells, row by row.
        csv: its numbers with more digits, as CSV.
        note: a line below the title.
        shown: the choices that it is shown for.
        folded: whether it has to be opened.
        late: whether its rows are made in the browser when it is first seen: from ``csv``, whose
            columns are then those of the table. ``rows`` is empty.
        styles: for a late table, how each column's numbers are written; "" for text.
        kind: "table", for the template.
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
    """A figure that can be saved.

    Attributes:
        title: its title.
        figure: the figure.
        note: a line below the title.
        shown: the choices that it is shown for.
        wide: whether it scrolls sideways where there is little room.
        kind: "chart", for the template.
    """

    title: str
    figure: go.Figure
    note: str = ""
    shown: Shown = Shown()
    wide: bool = False
    kind: str = "chart"


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its anchor.
        title: its heading.
        parts: its tables and charts.
        how: how to read them.
    """

    name: str
    title: str
    parts: Sequence[Table | Chart]
    how: str


Columns = Mapping[str, tuple[str, str]]
"""Column of a frame → its heading, and the format of its numbers ("" for text)."""


def frame_table(
    title: str,
    frame: pd.DataFrame,
    columns: Columns,
    *,
    folded: bool = False,
    late: bool = False,
    **more: Any,
) -> Table:
    """Return a table of some columns of a frame.

    Args:
        title: the title of the table.
        frame: the numbers and text.
        columns: the columns to show, in order, with their headings and formats.
        folded: whether the table has to be opened; folded tables are also late.
        late: whether the rows are made in the browser.
        **more: further attributes of `Table`.

    Returns:
        The table.
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
    """Return a frame as CSV, with eight significant digits.

    Args:
        frame: the table; its index is left out.
    """
    return frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")


def frame_of(values: xr.DataArray, rows: str, columns: str) -> pd.DataFrame:
    """Return a two-dimensional array as a frame.

    Args:
        values: an array with the dimensions ``rows`` and ``columns``.
        rows: the dimension whose coordinate becomes the index.
        columns: the dimension whose coordinate becomes the columns.

    Returns:
        The array with ``rows`` as index and ``columns`` as columns.
    """
    grid = values.transpose(rows, columns)
    index = pd.Index(grid[rows].to_numpy(), name=rows)
    return pd.DataFrame(grid.to_numpy(), index=index, columns=list(grid[columns].to_numpy()))


def cell(value: Any, style: str) -> Cell:
    """Return a cell of text or of a number.

    Args:
        value: what the cell holds.
        style: the format of a number; "" for text.
    """
    return number(float(value), style) if style else Cell(str(value), str(value))


def number(value: float, style: str = ".3g") -> Cell:
    """Return a cell with a number, written with a true minus sign; a dash if it is not finite.

    Args:
        value: the number.
        style: its format.

    Returns:
        The cell, which is sorted by the number.
    """
    text = f"{value:{style}}".replace("-", "−") if np.isfinite(value) else "–"
    return Cell(text, float(value))


def plain_figure(figure: go.Figure) -> dict[str, Any]:
    """Return a figure's data and layout without its template, as the page's theme styles it.

    Args:
        figure: a figure of `inactive_heads.plots`.

    Returns:
        ``data`` and ``layout`` as JSON values, arrays of floats in single precision.
    """
    found: dict[str, Any] = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return {"data": [_narrow(trace) for trace in found["data"]], "layout": found["layout"]}


def _narrow(value: Any) -> Any:
    """A trace with its float64 arrays, which plotly packs as base64, in float32."""
    if isinstance(value, dict):
        if value.get("dtype") == "f8" and "bdata" in value:
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), dtype="<f8").astype("<f4")
            packed = base64.b64encode(numbers.tobytes()).decode("ascii")
            return {**value, "dtype": "f4", "bdata": packed}
        return {key: _narrow(item) for key, item in value.items()}
    return value


def square_table(title: str, table: pd.DataFrame, shown: Shown | None = None) -> Table:
    """Return the numbers behind a heatmap as a folded table.

    Args:
        title: the title of the table.
        table: a table of numbers with labelled rows and columns.
        shown: the choices that it is shown for; any by default.

    Returns:
        The table.
    """
    frame = table.rename_axis(index=None, columns=None)
    corner = str(table.index.name or "score")
    frame = frame.reset_index(names=corner)
    columns = {corner: (corner, "")} | {name: (str(name), ".3f") for name in table.columns}
    return frame_table(title, frame, columns, folded=True, shown=shown or Shown())


def group_title(keys: tuple[Any, ...], several_models: bool) -> str:
    """Return the title of a table or chart of one model, task and mode.

    Args:
        keys: model, task and mode.
        several_models: whether the page has several models, so that the title names this one.

    Returns:
        The model (if there are several), task and mode.
    """
    model, task, mode = (str(key) for key in keys)
    return ", ".join([*([model] if several_models else []), task, mode])
