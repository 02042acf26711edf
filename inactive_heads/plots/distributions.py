"""Distributions of scores, in one model and across models: histograms, CDFs, distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from inactive_heads.analysis.heads.histogram import histogram
from inactive_heads.errors import UserError, nearest, shortened
from inactive_heads.plots.style import (
    TEMPLATE,
    escape,
    line_style,
    matrix,
    matrix_layout,
    model_style,
)


def score_distributions(
    scores: xr.DataArray,
    score: str,
    *,
    thresholds: xr.DataArray | None = None,
    percent: float | None = None,
    bins: int = 60,
) -> go.Figure:
    """Draw the histogram of a score's values over inputs, layers and heads.

    With ``thresholds`` and ``percent``, a line marks the threshold and the inactive side is shaded.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        score: the name of the score to draw.
        thresholds: ``(score, percent)``, from `choose_thresholds`; none by default.
        percent: which of the thresholds' percents to mark.
        bins: the number of bars.

    Returns:
        The figure. The title of its y axis says how many values are outside the range of the bars
        (see `histogram`).

    Raises:
        UserError: there is no such score, no threshold for ``percent``, or no finite value.
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
        template=TEMPLATE,
        bargap=0,
        xaxis={"title": escape(score)},
        yaxis={"title": f"heads × inputs{tail}"},
    )
    return figure


def score_cdfs(
    models: Mapping[str, xr.DataArray],
    score: str,
    *,
    thresholds: xr.DataArray | None = None,
    percent: float | None = None,
    points: int = 101,
) -> go.Figure:
    """Draw the CDF of a score over inputs, layers and heads, one line per model.

    Args:
        models: label → scores ``(score, sample, layer, head)``; models without the score are
            left out.
        score: the name of the score to draw.
        thresholds: ``(score, percent)``, from `choose_thresholds`; none by default.
        percent: which of the thresholds' percents a dashed line marks.
        points: the number of quantiles a line runs through, smallest and largest value included.

    Returns:
        The figure; its y axis is in percent of heads × inputs.

    Raises:
        UserError: no model has a finite value of the score, or there is no threshold for
            ``percent``.
    """
    figure, shares = go.Figure(layout={"template": TEMPLATE}), np.linspace(0, 1, points)
    for i, (label, scores) in enumerate(models.items()):
        if score not in scores["score"].to_numpy():
            continue
        values = np.asarray(scores.sel(score=score).to_numpy(), dtype=float).ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        style = model_style(i) if len(models) > 1 else line_style(score)
        figure.add_trace(
            go.Scatter(
                x=np.quantile(values, shares),
                y=100 * shares,
                mode="lines",
                name=escape(label),
                line={"color": style["color"], "dash": style["dash"], "width": 2},
                hovertemplate=f"{escape(label)}<br>%{{y:.3g}}% up to %{{x:.4g}}<extra></extra>",
            )
        )
    if not figure.data:
        raise UserError(f"no model has a finite value of {score!r}")
    if thresholds is not None and percent is not None:
        cut = _at(_one(thresholds, score), percent)
        figure.add_vline(x=cut, line={"dash": "dash", "width": 1.5})
    figure.update_layout(
        template=TEMPLATE,
        height=380,
        showlegend=len(models) > 1,
        xaxis={"title": escape(score)},
        yaxis={"title": "% of heads × inputs", "range": [0, 100]},
    )
    return figure


def distance_matrix(distances: xr.DataArray, score: str) -> go.Figure:
    """Draw the Wasserstein distances of every two models for one score; light means far.

    Args:
        distances: ``(score, model, other)``, from `model_distances`.
        score: the name of the score to draw.

    Returns:
        The figure.

    Raises:
        UserError: there is no such score.
    """
    grid = _one(distances, score).transpose("model", "other")
    names = grid["model"].to_numpy().tolist()
    heat = go.Heatmap(**matrix(grid.to_numpy(), names, names, digits=3, zmin=0))
    return go.Figure(heat.update(colorbar={"title": "distance"}), matrix_layout(names, names))


def distance_pairs(distances: xr.DataArray, pairs: Sequence[tuple[str, str]]) -> go.Figure:
    """Draw the distances of chosen pairs of models for every score: scores × pairs.

    Each score has its own unit, so a cell is coloured by the ratio of its distance to the largest
    distance in its row. The number in a cell is the distance.

    Args:
        distances: ``(score, model, other)``, from `model_distances`.
        pairs: names of two models each, such as a model and its finetuned form (see
            `inactive_heads.analysis.models.families`).

    Returns:
        The figure.
    """
    names = distances["score"].to_numpy().tolist()
    values = np.stack(
        [distances.sel(model=one, other=other).to_numpy() for one, other in pairs], axis=1
    )
    largest = np.nanmax(values, axis=1, keepdims=True, initial=0)
    shade = np.full(values.shape, np.nan)
    np.divide(values, largest, out=shade, where=largest > 0)
    columns = [f"{one} → {other}" for one, other in pairs]
    heat = matrix(shade, names, columns, zmin=0, zmax=1, showscale=False)
    labels = [["" if np.isnan(cell) else f"{cell:.3g}" for cell in row] for row in values]
    heat |= {"text": labels, "texttemplate": "%{text}"}
    heat |= {"hovertemplate": "%{y}<br>%{x}<br>distance %{text}<extra></extra>"}
    return go.Figure(go.Heatmap(**heat), matrix_layout(names, columns))


def layer_distance_lines(pairs: Mapping[str, xr.DataArray], score: str) -> go.Figure:
    """Draw the distances of two models layer by layer, one line per pair of models.

    Args:
        pairs: label, such as "base → instruct", → distances ``(score, layer)`` from
            `layer_distances`. Pairs without the score are left out.
        score: the name of the score to draw.

    Returns:
        The figure.

    Raises:
        UserError: no pair has distances of the score.
    """
    figure = go.Figure(layout={"template": TEMPLATE})
    for i, (label, distances) in enumerate(pairs.items()):
        if score not in distances["score"].to_numpy():
            continue
        style, values = model_style(i), distances.sel(score=score)
        figure.add_trace(
            go.Scatter(
                x=values["layer"].to_numpy(),
                y=values.to_numpy(),
                mode="lines+markers",
                name=escape(label),
                line={"color": style["color"], "dash": style["dash"], "width": 2},
                hovertemplate=f"{escape(label)}<br>layer %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        )
    if not figure.data:
        raise UserError(f"no pair has distances of {score!r}")
    figure.update_layout(
        template=TEMPLATE,
        height=380,
        showlegend=True,
        xaxis={"title": "layer"},
        yaxis={"title": f"distance, {escape(score)}", "rangemode": "tozero"},
        legend={"orientation": "h", "y": -0.25},
    )
    return figure


def _one(values: xr.DataArray, score: str) -> xr.DataArray:
    names = [str(name) for name in values["score"].to_numpy()]
    if score not in names:
        near = nearest(score, names)
        hint = f"did you mean {near!r}? " if near else ""
        raise UserError(f"there is no score {score!r}; {hint}there are {shortened(names)}")
    return values.sel(score=score)


def _at(cuts: xr.DataArray, percent: float) -> float:
    near = np.flatnonzero(np.isclose(cuts["percent"].to_numpy().astype(float), percent))
    if not len(near):
        raise UserError(f"no threshold for {percent:g}%, only for {cuts['percent'].to_numpy()}")
    return float(cuts.to_numpy()[near[0]])
