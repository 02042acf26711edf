"""Heads input by input: how often each is inactive, on which texts, and what that could save."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from inactive_heads.analysis.heads.existing import exists_at
from inactive_heads.plots.absent_heads import hover_texts, strokes
from inactive_heads.plots.style import TEMPLATE, escape, line_style, matrix, matrix_layout

_ALWAYS, _SOMETIMES, _NEVER = "#0072B2", "#56B4E9", "#BBBBBB"


def share_heatmap(shares: xr.DataArray) -> go.Figure:
    """Draw on what percent of the inputs each head is inactive, layer by head.

    Args:
        shares: between 0 and 1, ``(layer, head)``: one score of `inactive_shares`.

    Returns:
        The figure.
    """
    return _head_grid(
        100 * shares, colorscale="cividis", reversescale=True, zmin=0, zmax=100, unit="% of inputs"
    )


def correlation_heatmap(correlations: xr.DataArray) -> go.Figure:
    """Draw how each head's score correlates with the length of the input, layer by head.

    Args:
        correlations: between -1 and 1, ``(layer, head)``: one score of `length_correlations`.

    Returns:
        The figure.
    """
    return _head_grid(correlations, colorscale="RdBu", zmin=-1, zmax=1, zmid=0, unit="Spearman")


def change_heatmap(before: xr.DataArray, after: xr.DataArray) -> go.Figure:
    """Draw the change in the percent of inputs on which each head is inactive, layer by head.

    Args:
        before: shares between 0 and 1, ``(layer, head)``: one score of `inactive_shares`, for a
            base model, for example.
        after: the same for the other model, such as its finetuned form.

    Returns:
        The figure; its colours are in percentage points of inputs.
    """
    change = 100 * (after - before)
    return _head_grid(change, colorscale="RdBu", zmin=-100, zmax=100, zmid=0, unit="% of inputs")


def head_split(split: pd.DataFrame) -> go.Figure:
    """Draw how many heads each score calls inactive on all inputs, on some, and on none.

    Args:
        split: from `split_heads`.

    Returns:
        The figure, one bar per score.
    """
    names = [escape(name) for name in split["score"]]
    colors = {"always": _ALWAYS, "sometimes": _SOMETIMES, "never": _NEVER}
    bars = [
        go.Bar(
            x=split[column].to_numpy(),
            y=names,
            orientation="h",
            name=f"{column} inactive",
            marker={"color": color},
            hovertemplate=f"%{{y}}<br>{column} inactive: %{{x}} heads<extra></extra>",
        )
        for column, color in colors.items()
    ]
    return go.Figure(bars, _bar_layout(len(names), "heads", barmode="stack"))


def group_heatmap(shares: xr.DataArray) -> go.Figure:
    """Draw what percent of each group of inputs every score calls inactive: groups × scores.

    Args:
        shares: between 0 and 1, ``(score, group)``, from `group_shares`.

    Returns:
        The figure; its colours are in percent of (input, head) pairs.
    """
    groups = [str(group) for group in shares["group"].to_numpy()]
    names = [str(name) for name in shares["score"].to_numpy()]
    values = 100 * shares.transpose("group", "score").to_numpy()
    heat = go.Heatmap(**matrix(values, groups, names, digits=1, zmin=0, reversescale=True))
    heat.update(hovertemplate="%{y}<br>%{x}: %{z:.2f}% inactive<extra></extra>")
    return go.Figure(heat.update(colorbar={"title": "% inactive"}), matrix_layout(groups, names))


def length_lines(shares: xr.DataArray) -> go.Figure:
    """Draw the percent of heads that each score calls inactive against the length of the input.

    Args:
        shares: between 0 and 1, ``(score, bin)``, from `length_shares`.

    Returns:
        The figure, one line per score, each point at the mean length of its bin.
    """
    figure = go.Figure(layout={"template": TEMPLATE})
    spans = [
        f"{low} to {high} tokens, {n} inputs"
        for low, high, n in zip(
            *(shares[name].to_numpy() for name in ("shortest", "longest", "n")), strict=True
        )
    ]
    for name in shares["score"].to_numpy().tolist():
        style = line_style(name)
        figure.add_trace(
            go.Scatter(
                x=shares["mean"].to_numpy(),
                y=100 * shares.sel(score=name).to_numpy(),
                mode="lines+markers",
                name=escape(name),
                line={"color": style["color"], "dash": style["dash"], "width": 1.5},
                marker={"symbol": style["symbol"], "size": 7},
                text=spans,
                hovertemplate=f"{escape(name)}<br>%{{text}}: %{{y:.2f}}%<extra></extra>",
            )
        )
    figure.update_layout(
        template=TEMPLATE,
        height=420,
        xaxis={"title": "tokens in the input"},
        yaxis={"title": "% of heads inactive", "rangemode": "tozero"},
        legend={"itemclick": "toggleothers", "itemdoubleclick": "toggle"},
        hovermode="closest",
    )
    return figure


def cache_bars(shares: pd.DataFrame) -> go.Figure:
    """Draw what percent of the KV cache no active head reads, two bars per score.

    Args:
        shares: in percent, from `cache_shares`.

    Returns:
        The figure.
    """
    names = [escape(name) for name in shares["score"]]
    sides = {"cache": ("on the inputs", "#56B4E9"), "always": ("on every input", _ALWAYS)}
    bars = [
        go.Bar(
            x=shares[column].to_numpy(),
            y=names,
            orientation="h",
            name=label,
            marker={"color": color},
            hovertemplate=f"%{{y}}, {label}: %{{x:.2f}}%<extra></extra>",
        )
        for column, (label, color) in sides.items()
    ]
    return go.Figure(bars, _bar_layout(len(names), "% of the KV cache", barmode="group"))


def _bar_layout(rows: int, title: str, *, barmode: str) -> dict[str, object]:
    return {
        "template": TEMPLATE,
        "barmode": barmode,
        "height": 120 + 24 * rows,
        "xaxis": {"title": title, "rangemode": "tozero"},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    }


def _head_grid(values: xr.DataArray, *, unit: str, **look: object) -> go.Figure:
    grid = values.transpose("layer", "head")
    layers, heads = ([str(label) for label in grid[dim].to_numpy()] for dim in ("layer", "head"))
    z = grid.where(exists_at(grid)).to_numpy() if (crossed := strokes(grid)) else grid.to_numpy()
    heat = go.Heatmap(
        z=z,
        x=heads,
        y=layers,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertemplate="L%{y}H%{x}: %{z:.3g}<extra></extra>",
        colorbar={"title": unit},
        **look,
    )
    layout = {
        "template": TEMPLATE,
        "xaxis": {"title": "head", "type": "category", "showgrid": False, "tickangle": 0},
        "yaxis": {
            "title": "layer",
            "type": "category",
            "autorange": "reversed",
            "showgrid": False,
        },
        "height": int(np.clip(110 + 18 * len(layers), 320, 1000)),
    }
    figure = go.Figure(heat, layout)
    if crossed:
        # An empty cell says what it is: no such head, or one whose value is not known.
        names = [[f"L{layer}H{head}: not known" for head in heads] for layer in layers]
        gaps = hover_texts(grid, names)
        texts = [
            [
                f"L{layers[i]}H{heads[j]}: {z[i, j]:.3g}" if np.isfinite(z[i, j]) else gap
                for j, gap in enumerate(row)
            ]
            for i, row in enumerate(gaps)
        ]
        look_up = {"text": texts, "hovertemplate": "%{text}<extra></extra>", "hoverongaps": True}
        figure.update_traces(**look_up).update_layout(shapes=crossed)
    return figure
