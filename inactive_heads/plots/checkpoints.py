"""Heads across checkpoints: how many are inactive, and which turn when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from inactive_heads.errors import UserError
from inactive_heads.plots.style import TEMPLATE, escape, line_style


def checkpoint_lines(shares: xr.DataArray) -> go.Figure:
    """Draw the percent of heads that each score calls inactive, checkpoint by checkpoint.

    Args:
        shares: between 0 and 1, ``(score, checkpoint)``, from `checkpoint_shares`.

    Returns:
        The figure, one line per score.
    """
    labels = [escape(label) for label in shares["checkpoint"].to_numpy()]
    figure = go.Figure(layout={"template": TEMPLATE})
    for name in shares["score"].to_numpy().tolist():
        style = line_style(name)
        figure.add_trace(
            go.Scatter(
                x=labels,
                y=100 * shares.sel(score=name).to_numpy(),
                mode="lines+markers",
                name=escape(name),
                line={"color": style["color"], "dash": style["dash"], "width": 1.5},
                marker={"symbol": style["symbol"], "size": 7},
                hovertemplate=f"{escape(name)}<br>%{{x}}: %{{y:.2f}}% inactive<extra></extra>",
            )
        )
    figure.update_layout(
        template=TEMPLATE,
        height=420,
        xaxis={"title": "checkpoint", "type": "category"},
        yaxis={"title": "% of heads × inputs inactive", "rangemode": "tozero"},
        legend={"itemclick": "toggleothers", "itemdoubleclick": "toggle"},
        hovermode="closest",
    )
    return figure


def transition_bars(counts: pd.DataFrame, score: str) -> go.Figure:
    """Draw how many heads turn inactive (up) and active (down) between consecutive checkpoints.

    Args:
        counts: from `transition_counts`.
        score: the name of the score to draw.

    Returns:
        The figure.

    Raises:
        UserError: ``counts`` has no such score.
    """
    rows = counts[counts["score"] == score]
    if rows.empty:
        raise UserError(f"no transitions of {score!r}; there are {list(counts['score'].unique())}")
    steps = [
        f"{escape(a)} → {escape(b)}" for a, b in zip(rows["before"], rows["after"], strict=True)
    ]
    sides = [("turned_inactive", 1, "#0072B2", "turned inactive")]
    sides.append(("turned_active", -1, "#E69F00", "turned active"))
    bars = [
        go.Bar(
            x=steps,
            y=sign * rows[column].to_numpy(),
            name=label,
            marker={"color": color},
            customdata=rows[column].to_numpy(),
            hovertemplate=f"%{{x}}<br>%{{customdata}} heads {label}<extra></extra>",
        )
        for column, sign, color, label in sides
    ]
    layout = {
        "template": TEMPLATE,
        "barmode": "relative",
        "height": 340,
        "xaxis": {"type": "category", "automargin": True},
        "yaxis": {"title": "heads"},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
    }
    return go.Figure(bars, layout)


def turning_heatmap(states: xr.DataArray, score: str) -> go.Figure:
    """Draw the states of the heads that turn at least once: heads × checkpoints, dark for inactive.

    Args:
        states: booleans ``(score, checkpoint, layer, head)``, from `inactive_states`.
        score: the name of the score to draw.

    Returns:
        The figure, its rows in the order of the model's heads.

    Raises:
        UserError: no head of that score ever turns.
    """
    grid = states.sel(score=score).transpose("layer", "head", "checkpoint")
    values = grid.to_numpy()
    turning = np.argwhere((values[..., 1:] != values[..., :-1]).any(axis=-1))
    if not len(turning):
        raise UserError(f"no head turns by {score!r}")
    layers = grid["layer"].to_numpy().tolist()
    names = [f"L{layers[i]}H{head}" for i, head in turning.tolist()]
    rows = values[turning[:, 0], turning[:, 1]].astype(int)
    heat = go.Heatmap(
        z=rows,
        x=[escape(label) for label in grid["checkpoint"].to_numpy()],
        y=names,
        zmin=0,
        zmax=1,
        colorscale="cividis",
        reversescale=True,
        showscale=False,
        xgap=1,
        ygap=1,
        text=np.where(rows > 0, "inactive", "active"),
        hovertemplate="%{y} at %{x}: %{text}<extra></extra>",
    )
    layout = {
        "template": TEMPLATE,
        "xaxis": {"title": "checkpoint", "type": "category", "showgrid": False},
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
        "height": int(np.clip(120 + 16 * len(names), 220, 1200)),
    }
    return go.Figure(heat, layout)
