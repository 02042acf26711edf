"""The one look of all figures: colours, markers, dashes, titles of axes."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import plotly.graph_objects as go

from inactive_heads.analysis.curves.metrics import METRICS, Metric
from inactive_heads.analysis.curves.table import RANDOM

FAMILIES = {
    "AWFT": ("#0072B2", "circle"),
    "AEQD": ("#56B4E9", "square"),
    "FTVVN": ("#009E73", "diamond"),
    "AVVN": ("#E69F00", "triangle-up"),
    "AHON": ("#D55E00", "star"),
    "LTHON": ("#CC79A7", "cross"),
    "AHRN": ("#000000", "triangle-down"),
}
PROPOSED = {"RON": ("#882255", "pentagon")}
_DASHES = {"": "solid", "LN": "dash", "HN": "dashdot"}
AXIS_TITLES: dict[Metric, str] = {metric: metric.axis_title for metric in METRICS}
_AXIS = {
    "automargin": True,
    "gridcolor": "#E3E7EB",
    "linecolor": "#1B1F24",
    "zerolinecolor": "#E3E7EB",
    "title": {"standoff": 12},
}
# A small one of our own: plotly's are copied into every figure, and take most of its making.
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
    """Text as plotly shows it letter by letter: it reads tags and entities in every label."""
    return html.escape(str(text), quote=False)


def line_style(score: str) -> dict[str, str]:
    """How a score is drawn everywhere: ``color``, ``dash`` and marker ``symbol``."""
    if score == RANDOM:
        return {"color": "#808080", "dash": "dash", "symbol": "x"}
    parts = re.fullmatch(r"(.*?)(?: \((LN|HN)\))?", score, flags=re.DOTALL)
    family, kind = (parts[1], parts[2] or "") if parts else (score, "")
    # A measure of the user's own shares a colour, always the same one, but has its own marker.
    mine = (list(FAMILIES.values())[crc32(family.encode()) % len(FAMILIES)][0], "hexagon")
    color, symbol = (FAMILIES | PROPOSED).get(family, mine)
    return {"color": color, "dash": _DASHES[kind], "symbol": symbol}


def model_style(place: int) -> dict[str, str]:
    """How the model at that place in a list is drawn: ``color`` and ``dash``."""
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
    """The settings of a heatmap with its numbers written in its cells; NaN cells stay empty."""
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
    """The layout of such a heatmap: categories, the first row on top, height by its labels."""
    longest = max((len(str(name)) for name in columns), default=0)
    category = {"type": "category", "automargin": True, "showgrid": False}
    return {
        "template": TEMPLATE,
        "xaxis": {**category, "tickangle": -45},
        "yaxis": {**category, "autorange": "reversed"},
        "height": 100 + 26 * len(rows) + 4 * longest,
    } | more
