"""The look of all figures: colours, markers, dashes, axis titles."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import plotly.graph_objects as go

from inactive_heads.analysis.curves.metrics import METRICS, Metric
from inactive_heads.names import RANDOM, is_baseline

FAMILIES = {
    "AWFT": ("#0072B2", "circle"),
    "AEQD": ("#56B4E9", "square"),
    "FTVVN": ("#009E73", "diamond"),
    "AVVN": ("#E69F00", "triangle-up"),
    "AHON": ("#D55E00", "star"),
    "LTHON": ("#CC79A7", "cross"),
    "AHRN": ("#000000", "triangle-down"),
}
"""The scores of the paper, without normalization → colour and marker."""
PROPOSED = {"RON": ("#882255", "pentagon")}
"""Proposed scores → colour and marker."""
_DASHES = {"": "solid", "LN": "dash", "HN": "dashdot"}
AXIS_TITLES: dict[Metric, str] = {metric: metric.axis_title for metric in METRICS}
"""Metric → the title of its axis."""
_AXIS = {
    "automargin": True,
    "gridcolor": "#E3E7EB",
    "linecolor": "#1B1F24",
    "zerolinecolor": "#E3E7EB",
    "title": {"standoff": 12},
}
# A small template: plotly's own are copied into every figure, and building it is mostly that.
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"color": "#1B1F24"},
        "hoverlabel": {"align": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def escape(text: object) -> str:
    """Return text so that plotly shows it literally, instead of reading tags and entities in it.

    Args:
        text: anything; it is converted to a string.
    """
    return html.escape(str(text), quote=False)


def line_style(score: str) -> dict[str, str]:
    """Return how a score is drawn in every figure.

    A score that is not built in gets the colour of a family, always the same one, and a marker of
    its own.

    Args:
        score: the name of the score, with "(LN)" or "(HN)" if normalized.

    Returns:
        ``color``, ``dash`` and marker ``symbol``, as plotly names them.
    """
    if score == RANDOM:
        return {"color": "#808080", "dash": "dash", "symbol": "x"}
    if is_baseline(score):
        return {"color": "#808080", "dash": "longdashdot", "symbol": "cross"}
    parts = re.fullmatch(r"(.*?)(?: \((LN|HN)\))?", score, flags=re.DOTALL)
    family, kind = (parts[1], parts[2] or "") if parts else (score, "")
    # Any other score shares a family's colour, always the same one, but has its own marker.
    mine = (list(FAMILIES.values())[crc32(family.encode()) % len(FAMILIES)][0], "hexagon")
    color, symbol = (FAMILIES | PROPOSED).get(family, mine)
    return {"color": color, "dash": _DASHES[kind], "symbol": symbol}


def model_style(place: int) -> dict[str, str]:
    """Return how a model is drawn in figures with one line per model.

    Args:
        place: the position of the model in the list, from 0.

    Returns:
        ``color`` and ``dash``, as plotly names them.
    """
    colors = [color for color, _ in FAMILIES.values()]
    dashes = list(_DASHES.values())
    return {
        "color": colors[place % len(colors)],
        "dash": dashes[place // len(colors) % len(dashes)],
    }


def matrix(
    values: np.ndarray,
    rows: Sequence[object],
    columns: Sequence[object],
    *,
    digits: int = 2,
    **more: Any,
) -> dict[str, Any]:
    """Return the settings of a heatmap with the numbers written in its cells.

    Args:
        values: rows × columns; NaN cells stay empty.
        rows: the labels of the rows.
        columns: the labels of the columns.
        digits: decimals of the numbers.
        **more: further settings of `plotly.graph_objects.Heatmap`, which take precedence.
    """
    return {
        "z": np.asarray(values, dtype=float),
        "x": [escape(name) for name in columns],
        "y": [escape(name) for name in rows],
        "texttemplate": f"%{{z:.{digits}f}}",
        "hovertemplate": "%{y}<br>%{x}<br>%{z:.4g}<extra></extra>",
        "hoverongaps": False,
        "colorscale": "cividis",
        "xgap": 1,
        "ygap": 1,
    } | more


def matrix_layout(rows: Sequence[object], columns: Sequence[object], **more: Any) -> dict[str, Any]:
    """Return the layout of such a heatmap: categories, first row on top, height to fit its labels.

    Args:
        rows: the labels of the rows.
        columns: the labels of the columns.
        **more: further settings of the layout, which take precedence.

    Returns:
        The layout, for `plotly.graph_objects.Figure`.
    """
    longest = max((len(str(name)) for name in columns), default=0)
    category = {"type": "category", "automargin": True, "showgrid": False}
    return {
        "template": TEMPLATE,
        "xaxis": {**category, "tickangle": -45},
        "yaxis": {**category, "autorange": "reversed"},
        "height": 100 + 26 * len(rows) + 4 * longest,
    } | more
