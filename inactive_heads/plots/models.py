"""Scores compared across models: gains, ranks, agreement, spread of thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from inactive_heads.analysis.curves.model_comparison import REFERENCE
from inactive_heads.errors import UserError
from inactive_heads.plots.style import TEMPLATE, escape, line_style, matrix, matrix_layout


def model_gains(table: pd.DataFrame, *, reference: str = REFERENCE) -> go.Figure:
    """Draw what the reference score and the best score find in each model, joined by a line.

        ih.plots.model_gains(ih.compare_models(ih.rank_scores(curves)))

    Args:
        table: from `compare_models`.
        reference: the score that the table compares the best one with.

    Returns:
        The figure, one row per model; the name of the best score stands beside its mark.
    """
    figure, names = (
        go.Figure(layout={"template": TEMPLATE}),
        [escape(model) for model in table["model"]],
    )
    for name, row in zip(names, table.itertuples(index=False), strict=True):
        joined = {"color": "#808080", "width": 2}
        figure.add_trace(
            go.Scatter(
                x=[row.reference, row.best],
                y=[name, name],
                mode="lines",
                line=joined,
                hoverinfo="skip",
                showlegend=False,
            )
        )
    sides: list[tuple[str, str, dict[str, Any]]] = [
        ("reference", reference, line_style(reference)),
        ("best", "the best score", {"color": "#D55E00", "symbol": "star"}),
    ]
    for column, label, style in sides:
        scores = [reference] * len(table) if column == "reference" else list(table["best_score"])
        figure.add_trace(
            go.Scatter(
                x=table[column].to_numpy(),
                y=names,
                mode="markers" if column == "reference" else "markers+text",
                name=escape(label),
                marker={"color": style["color"], "symbol": style["symbol"], "size": 11},
                text=[escape(score) for score in scores],
                textposition="middle right",
                cliponaxis=False,
                hovertemplate="%{y}<br>%{text}: %{x:.2f}%<extra></extra>",
            )
        )
    largest = float(np.nanmax(table[["reference", "best"]].to_numpy()))
    figure.update_layout(
        template=TEMPLATE,
        height=120 + 26 * len(table),
        # Leave room on the right for the names beside the marks.
        xaxis={"title": "% of heads that can be zeroed", "range": [0, 1.22 * largest or 1]},
        yaxis={"type": "category", "autorange": "reversed", "automargin": True},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    return figure


def rank_heatmap(ranks: pd.DataFrame) -> go.Figure:
    """Draw the rank of every score on every model; dark is good.

    Args:
        ranks: scores × models, from `rank_table`.

    Returns:
        The figure.
    """
    rows, columns = list(ranks.index), list(ranks.columns)
    heat = go.Heatmap(**matrix(ranks.to_numpy(), rows, columns, digits=0, zmin=1))
    heat.update(hovertemplate="%{x}<br>%{y}: rank %{z:.0f}<extra></extra>", showscale=False)
    return go.Figure(heat, matrix_layout(rows, columns))


def agreement_heatmap(table: pd.DataFrame, *, low: float = 0.0, title: str = "") -> go.Figure:
    """Draw a square table of agreement; light means alike.

    Args:
        table: from `rank_correlations` or `top_overlap`, or any square table, such as the agreement
            of scores' head sets.
        low: the value at the dark end of the colours; the light end is 1.
        title: the title of the colour bar; none by default.

    Returns:
        The figure.
    """
    rows, columns = list(table.index), list(table.columns)
    heat = go.Heatmap(**matrix(table.to_numpy(), rows, columns, zmin=low, zmax=1))
    heat.update(colorbar={"title": escape(title)})
    return go.Figure(heat, matrix_layout(rows, columns))


def threshold_spread(stability: pd.DataFrame, percent: float) -> go.Figure:
    """Draw how far a score's thresholds differ between data sets: scores × models, dark is stable.

    Args:
        stability: from `threshold_stability`.
        percent: which percent of heads to draw, one of the table's.

    Returns:
        The figure; spreads are in percent of the mean size of the thresholds.

    Raises:
        UserError: the table has no thresholds for ``percent``.
    """
    rows = stability[np.isclose(stability["percent"], percent)]
    if rows.empty:
        listed = ", ".join(f"{known:g}" for known in stability["percent"].unique())
        raise UserError(f"there are no thresholds for {percent:g}%, only for {listed}")
    order = [list(dict.fromkeys(rows[name])) for name in ("score", "model")]
    wide = rows.pivot_table(index="score", columns="model", values="relative_spread")
    grid = 100 * wide.reindex(index=order[0], columns=order[1])
    heat = go.Heatmap(**matrix(grid.to_numpy(), *order, digits=0, zmin=0, zmax=100))
    heat.update(colorbar={"title": "spread, %"})
    heat.update(hovertemplate="%{x}<br>%{y}: %{z:.1f}% of the thresholds’ size<extra></extra>")
    return go.Figure(heat, matrix_layout(*order))
