"""Results as plotly figures. Data first, options by keyword; a figure is returned, never shown.

One look throughout: dark is towards inactive; a line's colour and marker tell the measure, its
dash the normalisation ("(LN)" dashed, "(HN)" dash-dotted); Random is grey. Colours are Okabe and
Ito's and cividis, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import html
import re
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from inactive_heads.analysis import (
    CURVE_KEYS,
    RANDOM,
    Metric,
    baseline_row,
    inactive_counts,
    rank_scores,
)
from inactive_heads.errors import UserError

_FAMILIES = {
    "AWFT": ("#0072B2", "circle"),
    "AEQD": ("#56B4E9", "square"),
    "FTVVN": ("#009E73", "diamond"),
    "AVVN": ("#E69F00", "triangle-up"),
    "AHON": ("#D55E00", "star"),
    "LTHON": ("#CC79A7", "cross"),
    "AHRN": ("#000000", "triangle-down"),
}
_DASHES = {"": "solid", "LN": "dash", "HN": "dashdot"}
AXIS_TITLES: dict[Metric, str] = {"accuracy": "accuracy, %", "loss": "loss, nats per token"}
_BOUNDS: dict[Metric, tuple[str, str]] = {
    "accuracy": ("ci_low", "ci_high"),
    "loss": ("loss_low", "loss_high"),
}
_TEMPLATE = "plotly_white"


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
    mine = (list(_FAMILIES.values())[crc32(family.encode()) % len(_FAMILIES)][0], "hexagon")
    color, symbol = _FAMILIES.get(family, mine)
    return {"color": color, "dash": _DASHES[kind], "symbol": symbol}


def head_heatmap(
    values: xr.DataArray,
    *,
    title: str | None = None,
    inactive: xr.DataArray | None = None,
    inactive_side: str | None = None,
) -> go.Figure:
    """One number per head as a layer-by-head heatmap; the figure is returned.

    ``values`` has the dims layer and head: ``scores.sel(score="AHON (LN)").mean("sample")``.
    Heads where ``inactive``, a mask of the same dims, is true carry a dot. Colours run between
    the 1st and the 99th percentile, so that one outlier does not flatten the rest; hovering names
    the head (L5H3), its exact value and its rank, 1 being furthest on the inactive side. Dark is
    that side: ``inactive_side``, "below" or "above", by default what ``values`` says itself.
    """
    figure = go.Figure(_heat_traces(values, inactive, _side(values, inactive_side)))
    name = str(values.coords["score"].to_numpy()) if "score" in values.coords else ""
    return _heat_layout(figure, values, name if title is None else title)


def score_heatmaps(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> go.Figure:
    """The heatmap of every score in one figure, with a menu to choose the score.

    Values are means over inputs; a dot marks a head that is inactive on more than half of the
    inputs at the given share.
    """
    counts = inactive_counts(scores, thresholds, percent)
    scores = scores.sel(score=counts["score"])
    often = counts > scores.sizes["sample"] / 2
    figure, names = go.Figure(), [str(name) for name in scores["score"].to_numpy()]
    for i in range(len(names)):
        values = scores.isel(score=i).mean("sample")
        for trace in _heat_traces(values, often.isel(score=i), _side(values, None)):
            figure.add_trace(trace.update(visible=i == 0))
    buttons = [
        {
            "label": escape(name),
            "method": "update",
            "args": [{"visible": [i // 2 == chosen for i in range(2 * len(names))]}],
        }
        for chosen, name in enumerate(names)
    ]
    menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(updatemenus=[menu])
    return _heat_layout(figure, scores, f"dots: inactive at {percent:g}%")


def accuracy_curves(
    curves: pd.DataFrame,
    metric: Metric = "accuracy",
    *,
    highlight: str | None = None,
    title: str | None = None,
) -> go.Figure:
    """Accuracy (or loss) against the % of heads zeroed, one line per score; the figure.

    ``curves`` holds one model, task and mode. The legend is sorted by rank (normalized AUC), a
    click there shows a line alone, another brings all back. ``highlight`` (by default the best
    score) and Random are drawn strong and with their 95% intervals, where there are any; the
    model with no head zeroed is the dotted line.
    """
    rows = curves[curves[metric].notna()] if metric in curves else curves.iloc[:0]
    if rows.empty:
        raise UserError(f"no curve has a value of {metric!r}")
    if len(groups := rows[CURVE_KEYS].drop_duplicates()) > 1:
        listed = "; ".join(" / ".join(map(str, row)) for row in groups.itertuples(index=False))
        raise UserError(f"one chart takes one model, task and mode; these are several: {listed}")
    ranks = _ranks(rows, metric)
    if highlight is None:
        highlight = next((name for name in ranks if name != RANDOM), RANDOM)
    elif highlight not in ranks:
        raise UserError(f"highlight={highlight!r} is none of the scores {list(ranks)}")
    figure = go.Figure()
    for name, rank in ranks.items():
        curve = rows[rows["score"] == name].sort_values("percent_zeroed")
        figure.add_trace(_curve(curve, metric, rank, strong=name in (highlight, RANDOM)))
    if (start := baseline_row(rows)) is not None:
        figure.add_hline(y=float(start[metric]), line={"dash": "dot", "width": 1.5})
    figure.update_layout(
        template=_TEMPLATE,
        title=None if title is None else escape(title),
        xaxis={"title": "heads zeroed, %", "rangemode": "tozero"},
        yaxis={"title": AXIS_TITLES[metric]},
        legend={"itemclick": "toggleothers", "itemdoubleclick": "toggle"},
        hovermode="closest",
    )
    return figure


def score_distributions(
    scores: xr.DataArray,
    score: str,
    *,
    thresholds: xr.DataArray | None = None,
    percent: float | None = None,
    bins: int = 60,
) -> go.Figure:
    """How a score's values spread over inputs, layers and heads: a histogram; the figure.

    With ``thresholds`` and ``percent`` a line marks the threshold and the inactive side is
    shaded. What lies beyond the bars' range (0.5% at either end at most) is counted in the title.
    """
    values = _one(scores, score)
    edges, counts, beyond = histogram(values.to_numpy(), bins=bins)
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    bar = go.Bar(x=middles, y=counts, width=widths, marker={"color": line_style(score)["color"]})
    figure = go.Figure(bar.update(hovertemplate="%{x:.4g}: %{y}<extra></extra>"))
    if thresholds is not None and percent is not None:
        cut = float(_at(_one(thresholds, score), percent))
        span = (edges[0], cut) if values["inactive"].item() == "below" else (cut, edges[-1])
        figure.add_vrect(x0=span[0], x1=span[1], fillcolor="#808080", opacity=0.2, line_width=0)
        figure.add_vline(x=cut, line={"dash": "dash"}, annotation_text=f"{percent:g}%: {cut:.4g}")
    tail = f" ({beyond} further out)" if beyond else ""
    figure.update_layout(
        template=_TEMPLATE,
        bargap=0,
        xaxis={"title": escape(score)},
        yaxis={"title": f"heads × inputs{tail}"},
    )
    return figure


def inactive_by_layer(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> go.Figure:
    """How much of each layer every score calls inactive, in % of (input, head) pairs; the figure.

    Scores on the y axis, layers on the x axis, at one share of heads.
    """
    share = inactive_counts(scores, thresholds, percent).mean("head") * 100
    share = share / scores.sizes["sample"]
    heat = go.Heatmap(
        z=share.transpose("score", "layer").to_numpy(),
        x=[str(layer) for layer in share["layer"].to_numpy()],
        y=[escape(name) for name in share["score"].to_numpy()],
        colorscale="cividis",
        reversescale=True,
        zmin=0,
        colorbar={"title": "% inactive"},
        hovertemplate="%{y}, layer %{x}: %{z:.1f}%<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        template=_TEMPLATE,
        title=f"share of each layer that is inactive at {percent:g}%",
        xaxis={"title": "layer", "type": "category"},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return figure


def histogram(values: np.ndarray, *, bins: int = 60) -> tuple[np.ndarray, np.ndarray, int]:
    """``(edges, counts, beyond)`` of the finite values; ``beyond`` were too far out to show.

    The whole range where it is not much longer than the middle 99%, else that middle.
    """
    flat = np.asarray(values, dtype=float).ravel()
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        raise UserError("there is no finite value to count")
    low, high = float(flat.min()), float(flat.max())
    inner_low, inner_high = (float(q) for q in np.quantile(flat, [0.005, 0.995]))
    reach = 2 * (inner_high - inner_low)
    if reach > 0 and high - low > reach:
        low, high = inner_low, inner_high
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(flat, bins=bins, range=(low, high))
    return edges, counts, int(len(flat) - counts.sum())


def head_ranks(values: np.ndarray, side: str) -> np.ndarray:
    """The place of every head, 1 being furthest on the inactive side; NaN stays NaN."""
    keyed = pd.Series(np.asarray(values, dtype=float).ravel())
    return keyed.rank(ascending=side == "below", method="min").to_numpy().reshape(values.shape)


def _heat_traces(values: xr.DataArray, mask: xr.DataArray | None, side: str) -> list[Any]:
    grid = values.transpose("layer", "head")
    layers, heads = _labels(grid, "layer"), _labels(grid, "head")
    z = np.asarray(grid.to_numpy(), dtype=float)
    ranks, total = head_ranks(z, side), int(np.isfinite(z).sum())
    low, high = np.nanpercentile(z, [1, 99]) if total else (0.0, 1.0)
    hover = [
        [
            f"L{layer}H{head}<br>{z[i, j]:.4g}<br>rank {ranks[i, j]:.0f} of {total}"
            if np.isfinite(z[i, j])
            else f"L{layer}H{head}<br>not known"
            for j, head in enumerate(heads)
        ]
        for i, layer in enumerate(layers)
    ]
    heat = go.Heatmap(
        z=z,
        x=heads,
        y=layers,
        zmin=float(low),
        zmax=float(high),
        colorscale="cividis",
        reversescale=side == "above",
        xgap=1,
        ygap=1,
        text=hover,
        hovertemplate="%{text}<extra></extra>",
    )
    if mask is None:
        at = np.empty((0, 2), dtype=int)
    else:
        at = np.argwhere(mask.transpose("layer", "head").to_numpy())
    dots = go.Scatter(
        x=[heads[j] for _, j in at],
        y=[layers[i] for i, _ in at],
        mode="markers",
        marker={"color": "white", "size": 6, "line": {"color": "black", "width": 1}},
        hoverinfo="skip",
        showlegend=False,
    )
    return [heat, dots]


def _heat_layout(figure: go.Figure, values: xr.DataArray, title: str) -> go.Figure:
    # Categories, not numbers: a hybrid's layers have gaps, and a gap is not a wider row.
    figure.update_layout(
        template=_TEMPLATE,
        title=escape(title),
        xaxis={
            "title": "head",
            "type": "category",
            "range": [-0.5, values.sizes["head"] - 0.5],
            "showgrid": False,
        },
        yaxis={
            "title": "layer",
            "type": "category",
            "range": [values.sizes["layer"] - 0.5, -0.5],
            "showgrid": False,
        },
        height=int(np.clip(160 + 18 * values.sizes["layer"], 320, 1000)),
    )
    return figure


def _curve(curve: pd.DataFrame, metric: Metric, rank: int | None, *, strong: bool) -> go.Scatter:
    name = str(curve["score"].iloc[0])
    style, values = line_style(name), curve[metric]
    low, high = (_column(curve, bound) for bound in _BOUNDS[metric])
    hover = []
    for at, value, least, most in zip(curve["percent_zeroed"], values, low, high, strict=True):
        interval = "" if np.isnan(least + most) else f" [{least:.4g}, {most:.4g}]"
        hover.append(f"{escape(name)}<br>{at:.3g}% zeroed: {value:.4g}{interval}")
    bars: dict[str, Any] = {"visible": False}
    if not (low.isna() | high.isna()).any():
        above, below = (high - values).clip(lower=0), (values - low).clip(lower=0)
        bars = {"array": above.tolist(), "arrayminus": below.tolist(), "symmetric": False}
        bars |= {"visible": strong, "thickness": 1, "width": 3}
    return go.Scatter(
        x=curve["percent_zeroed"].tolist(),
        y=values.tolist(),
        error_y=bars,
        mode="lines+markers",
        name=escape(name if rank is None else f"{rank}. {name}"),
        line={"color": style["color"], "dash": style["dash"], "width": 3 if strong else 1.2},
        marker={"symbol": style["symbol"], "size": 8 if strong else 5},
        opacity=1 if strong else 0.7,
        text=hover,
        hovertemplate="%{text}<extra></extra>",
        meta=name,
    )


def _ranks(rows: pd.DataFrame, metric: Metric) -> dict[str, int | None]:
    """Each score's rank, the best first; None, in order of appearance, where none can be told."""
    try:
        table = rank_scores(rows, metric=metric)
    except UserError:
        return dict.fromkeys(map(str, rows["score"].unique()))
    return {str(name): int(rank) for name, rank in zip(table["score"], table["rank"], strict=True)}


def _side(values: xr.DataArray, given: str | None) -> str:
    side = given or (values["inactive"].item() if "inactive" in values.coords else "below")
    if side not in ("below", "above"):
        raise UserError(f"inactive_side={side!r} must be 'below' or 'above'")
    return str(side)


def _labels(values: xr.DataArray, dim: str) -> list[str]:
    """The numbers of layers or heads as categories; 0, 1, 2, … where the array names none."""
    if dim in values.coords:
        return [str(label) for label in values[dim].to_numpy()]
    return [str(number) for number in range(values.sizes[dim])]


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name in table:
        return table[name].astype(float)
    return pd.Series(np.nan, index=table.index, dtype=float)


def _one(values: xr.DataArray, score: str) -> xr.DataArray:
    if score not in (names := [str(name) for name in values["score"].to_numpy()]):
        raise UserError(f"there is no score {score!r}; there are {', '.join(names)}")
    return values.sel(score=score)


def _at(cuts: xr.DataArray, percent: float) -> float:
    near = np.flatnonzero(np.isclose(cuts["percent"].to_numpy().astype(float), percent))
    if not len(near):
        raise UserError(f"no threshold for {percent:g}%, only for {cuts['percent'].to_numpy()}")
    return float(cuts.to_numpy()[near[0]])
