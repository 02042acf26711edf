"""Where the inactive heads are: layer-by-head heatmaps, and shares by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from inactive_heads.analysis.heads.existing import check_absent, exists_at
from inactive_heads.analysis.heads.head_lists import read_heads
from inactive_heads.analysis.heads.head_sets import head_ranks, inactive_at
from inactive_heads.analysis.heads.per_input import inactive_shares, layer_shares
from inactive_heads.errors import UserError
from inactive_heads.plots.absent_heads import hover_texts, strokes
from inactive_heads.plots.style import TEMPLATE, escape


def head_heatmap(
    values: xr.DataArray,
    *,
    title: str | None = None,
    inactive: Any = None,
    inactive_side: str | None = None,
) -> go.Figure:
    """Draw one number per head as a layer-by-head heatmap; dark means towards inactive.

        heads = ih.select_heads(scores, "AHON (LN)", percent=10)
        ih.plots.head_heatmap(scores.sel(score="AHON (LN)").mean("sample"), inactive=heads)

    Colours span the 1st to the 99th percentile, so that one outlier does not flatten the rest.
    Hovering shows the head (L5H3), its exact value and its rank: 1 is furthest on the inactive
    side. A place with a stroke is no head: its layer has fewer (coordinate ``n_heads``).

    Args:
        values: ``(layer, head)``, such as the mean of a score over inputs.
        title: the title of the figure; by default the name of the score, if ``values`` has one.
        inactive: a set of heads in any form that `Fixed` takes, such as booleans
            ``(layer, head)``; its heads carry a dot. None by default.
        inactive_side: the side on which heads are inactive, "below" or "above"; by default the
            coordinate ``inactive`` of ``values``, else "below".

    Returns:
        The figure.

    Raises:
        UserError: ``inactive`` is no set of heads, or one of other heads than ``values``;
            ``inactive_side`` is neither "below" nor "above"; or there is a value at a head that a
            layer lacks.
    """
    figure = go.Figure(_heat_traces(values, inactive, _side(values, inactive_side)))
    name = str(values.coords["score"].to_numpy()) if "score" in values.coords else ""
    return _heat_layout(figure, values, name if title is None else title)


def score_heatmaps(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> go.Figure:
    """Draw the heatmap of every score in one figure, with a menu to choose the score.

    Values are means over inputs. A dot marks a head that is inactive on more than half of them.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        thresholds: ``(score, percent)``, from `choose_thresholds`. Scores without a threshold are
            left out.
        percent: which of the thresholds' percents to use.

    Returns:
        The figure.

    Raises:
        UserError: there is no threshold for ``percent``.
    """
    often = inactive_shares(inactive_at(scores, thresholds, percent)) > 0.5
    scores = scores.sel(score=often["score"])
    figure, names = (
        go.Figure(layout={"template": TEMPLATE}),
        [str(name) for name in scores["score"].to_numpy()],
    )
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


def inactive_by_layer(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> go.Figure:
    """Draw how much of each layer every score calls inactive: scores × layers.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        thresholds: ``(score, percent)``, from `choose_thresholds`. Scores without a threshold are
            left out.
        percent: which of the thresholds' percents to use.

    Returns:
        The figure; its colours are in percent of a layer's (input, head) pairs.

    Raises:
        UserError: there is no threshold for ``percent``.
    """
    shares = layer_shares(inactive_at(scores, thresholds, percent))
    heat = go.Heatmap(
        z=100 * shares.transpose("score", "layer").to_numpy(),
        x=[str(layer) for layer in shares["layer"].to_numpy()],
        y=[escape(name) for name in shares["score"].to_numpy()],
        colorscale="cividis",
        reversescale=True,
        zmin=0,
        colorbar={"title": "% inactive"},
        hovertemplate="%{y}, layer %{x}: %{z:.1f}%<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        template=TEMPLATE,
        title=f"share of each layer that is inactive at {percent:g}%",
        xaxis={"title": "layer", "type": "category"},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return figure


def _heat_traces(values: xr.DataArray, inactive: Any, side: str) -> list[Any]:
    grid = values.transpose("layer", "head")
    check_absent(grid.where(grid != 0), "values")  # 0 is what a mean of booleans has there
    layers, heads = _labels(grid, "layer"), _labels(grid, "head")
    z = np.where(exists_at(grid), np.asarray(grid.to_numpy(), dtype=float), np.nan)
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
        text=hover_texts(grid, hover),
        hovertemplate="%{text}<extra></extra>",
    )
    dotted = [] if inactive is None else _named(inactive, layers, heads, exists_at(grid))
    dots = go.Scatter(
        x=[head for _, head in dotted],
        y=[layer for layer, _ in dotted],
        mode="markers",
        marker={"color": "white", "size": 6, "line": {"color": "black", "width": 1}},
        hoverinfo="skip",
        showlegend=False,
    )
    return [heat, dots]


def _named(
    inactive: Any, layers: Sequence[str], heads: Sequence[str], exists: np.ndarray
) -> list[tuple[str, str]]:
    """The heads of a set by the categories of the axes; those of a mask without labels by place."""
    found = read_heads(inactive)
    pairs, (n_layers, n_heads) = found.pairs, found.shape
    if n_layers not in (None, len(layers)) or n_heads not in (None, len(heads)):
        raise UserError(
            f"the mask of heads has the shape {(n_layers, n_heads)}, the values (layers, heads) "
            f"{(len(layers), len(heads))}"
        )
    rows = [str(i) if n_layers is None else layers[i] for i, _ in pairs]
    columns = [str(j) if n_heads is None else heads[j] for _, j in pairs]
    for layer, head in zip(rows, columns, strict=True):
        known = layer in layers and head in heads
        if not known or not exists[layers.index(layer), heads.index(head)]:
            raise UserError(f"head L{layer}H{head} is not among the values that are drawn")
    return list(zip(rows, columns, strict=True))


def _heat_layout(figure: go.Figure, values: xr.DataArray, title: str) -> go.Figure:
    # Categories, not numbers: layers of hybrid models have gaps, which must not widen a row.
    figure.update_layout(
        template=TEMPLATE,
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
    if crossed := strokes(values):
        figure.update_layout(shapes=crossed)
    return figure


def _side(values: xr.DataArray, given: str | None) -> str:
    side = given or (values["inactive"].item() if "inactive" in values.coords else "below")
    if side not in ("below", "above"):
        raise UserError(f"inactive_side={side!r} must be 'below' or 'above'")
    return str(side)


def _labels(values: xr.DataArray, dim: str) -> list[str]:
    """The numbers of layers or heads as categories; 0, 1, 2, … if the array has no coordinate."""
    if dim in values.coords:
        return [str(label) for label in values[dim].to_numpy()]
    return [str(number) for number in range(values.sizes[dim])]
