"""The cost of zeroing: accuracy, loss and other effects against the percent of heads zeroed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from inactive_heads.analysis.curves.metrics import Metric, MetricName, get_metric
from inactive_heads.analysis.curves.ranking import ranked
from inactive_heads.analysis.curves.table import CURVE_KEYS, baseline_row, metric_of
from inactive_heads.errors import UserError, shortened
from inactive_heads.names import RANDOM, is_baseline
from inactive_heads.plots.style import TEMPLATE, escape, line_style

EFFECTS = {
    "kl": "KL from the unablated model, nats",
    "top1_agreement": "top-1 agreement with the unablated model, %",
    "answer_logprob_change": "change of the right answer's log-probability, nats",
}
"""Columns of a sweep's curves with effects other than the metric → the titles of their axes."""


def accuracy_curves(
    curves: pd.DataFrame,
    metric: Metric | MetricName = "accuracy",
    *,
    highlight: str | None = None,
    title: str | None = None,
) -> go.Figure:
    """Draw accuracy or loss against the percent of heads zeroed, one line per score.

        curves = ih.sweep(model, task, scores=["AHON (LN)", "Random"])
        ih.plots.accuracy_curves(curves, task.metric)

    The legend is sorted by rank (normalized AUC). Clicking a name there shows that line alone, a
    second click brings all lines back. The dotted line is the unablated model.

    Args:
        curves: of one model, task and mode, from `sweep` or `read_curves`.
        metric: the column to draw.
        highlight: the score to draw strong and with its 95% intervals, as baselines are; by default the
            best score by rank. The intervals are those of the paired changes, if the curves have
            them.
        title: the title of the figure; none by default.

    Returns:
        The figure.

    Raises:
        UserError: the metric is unknown, the curves have no value of it or are of several models,
            tasks or modes, or there is no score ``highlight``.
    """
    metric = get_metric(metric)
    rows = curves[curves[metric].notna()] if metric in curves else curves.iloc[:0]
    if rows.empty:
        raise UserError(f"no curve has a value of {metric!r}")
    if len(groups := rows[CURVE_KEYS].drop_duplicates()) > 1:
        listed = "; ".join(" / ".join(map(str, row)) for row in groups.itertuples(index=False))
        raise UserError(f"one chart takes one model, task and mode; these are several: {listed}")
    ranks = _ranks(rows, metric)
    if highlight is None:
        highlight = next((name for name in ranks if not is_baseline(name)), RANDOM)
    elif highlight not in ranks:
        raise UserError(f"highlight={highlight!r} is none of the scores {shortened(list(ranks))}")
    figure = go.Figure(layout={"template": TEMPLATE})
    for name, rank in ranks.items():
        curve = rows[rows["score"] == name].sort_values("percent_zeroed")
        bounds = _paired_bounds(curve, metric)
        figure.add_trace(
            _curve(curve, metric, rank, bounds, strong=name == highlight or is_baseline(name))
        )
    if (start := baseline_row(rows)) is not None:
        figure.add_hline(y=float(start[metric]), line={"dash": "dot", "width": 1.5})
    figure.update_layout(title=None if title is None else escape(title))
    return _against_zeroed(figure, metric.axis_title)


def effect_curves(curves: pd.DataFrame, effect: str) -> go.Figure:
    """Draw an effect of zeroing other than on the metric, against the percent of heads zeroed.

    Effects are 0 with no head zeroed. They show differences that right and wrong answers are too
    coarse for.

    Args:
        curves: of one model, task and mode, from `sweep`.
        effect: the column to draw, one of ``EFFECTS``.

    Returns:
        The figure, with one line per score; the best score (by rank) and baselines are drawn strong.
    """
    rows = curves[curves[effect].notna()]
    metric = metric_of(rows)
    ranks = _ranks(rows, metric)
    best = next((name for name in ranks if not is_baseline(name)), RANDOM)
    figure = go.Figure(layout={"template": TEMPLATE})
    for name, rank in ranks.items():
        own = rows[rows["score"] == name].sort_values("percent_zeroed")
        bounds = [_column(own, f"{effect}_{end}") for end in ("low", "high")]
        drawn = own.assign(**{metric: own[effect]})
        figure.add_trace(
            _curve(drawn, metric, rank, bounds, strong=name == best or is_baseline(name))
        )
    return _against_zeroed(figure, EFFECTS[effect])


def _against_zeroed(figure: go.Figure, what: str) -> go.Figure:
    return figure.update_layout(
        template=TEMPLATE,
        xaxis={"title": "heads zeroed, %", "rangemode": "tozero"},
        yaxis={"title": what},
        legend={"itemclick": "toggleothers", "itemdoubleclick": "toggle"},
        hovermode="closest",
    )


def curve_grid(
    curves: pd.DataFrame, metric: Metric | MetricName = "accuracy", *, columns: int = 4
) -> go.Figure:
    """Draw the curves of many models, one panel per model, in the order of the table.

    Each panel has its own y axis. The dotted line is the unablated model; the best score (by
    normalized AUC) and baselines are drawn strong. Clicking a name in the legend shows that score
    alone in every panel.

    Args:
        curves: of one task and mode and any number of models, from `sweep` or `read_curves`.
        metric: the column to draw.
        columns: the number of panels in a row.

    Returns:
        The figure.

    Raises:
        UserError: the metric is unknown, or the curves have no value of it or are of several tasks
            or modes.
    """
    metric = get_metric(metric)
    rows = curves[curves[metric].notna()] if metric in curves else curves.iloc[:0]
    if rows.empty:
        raise UserError(f"no curve has a value of {metric!r}")
    settings = rows[CURVE_KEYS[1:]].drop_duplicates()
    if len(settings) > 1:
        listed = "; ".join(" / ".join(map(str, row)) for row in settings.itertuples(index=False))
        raise UserError(f"one grid takes one task and mode; these are several: {listed}")
    models = list(dict.fromkeys(rows["model"]))
    columns = min(columns, len(models))
    height = math.ceil(len(models) / columns)
    figure = make_subplots(
        rows=height,
        cols=columns,
        subplot_titles=[escape(model) for model in models],
        horizontal_spacing=0.16 / columns,
        vertical_spacing=0.24 / height,
        x_title="heads zeroed, %",
        y_title=metric.axis_title,
    )
    named: set[str] = set()
    for i, model in enumerate(models):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        own = rows[rows["model"] == model]
        ranks = _ranks(own, metric)
        best = next((name for name in ranks if not is_baseline(name)), RANDOM)
        # In the order of the table, so that the legend's order does not depend on the first panel.
        for name in dict.fromkeys(own["score"]):
            curve = own[own["score"] == name].sort_values("percent_zeroed")
            line = _grid_line(curve, metric, ranks[name], strong=name == best or is_baseline(name))
            figure.add_trace(line.update(showlegend=name not in named), **place)
            named.add(name)
        if (start := baseline_row(own)) is not None:
            line_of_all = {"dash": "dot", "width": 1}
            figure.add_hline(y=float(start[metric]), line=line_of_all, **place)
    figure.update_layout(
        template=TEMPLATE,
        height=110 + 230 * height,
        legend={"itemclick": "toggleothers", "itemdoubleclick": "toggle"},
        hovermode="closest",
    )
    figure.update_annotations(font_size=13)
    return figure


def _grid_line(
    curve: pd.DataFrame, metric: Metric, rank: int | None, *, strong: bool
) -> go.Scatter:
    name = str(curve["score"].iloc[0])
    style = line_style(name)
    place = "" if rank is None else f", rank {rank}"
    return go.Scatter(
        x=curve["percent_zeroed"].to_numpy(),
        y=curve[metric].to_numpy(),
        mode="lines+markers",
        name=escape(name),
        legendgroup=name,
        line={"color": style["color"], "dash": style["dash"], "width": 2.5 if strong else 1},
        marker={"symbol": style["symbol"], "size": 6 if strong else 4},
        opacity=1 if strong else 0.7,
        hovertemplate=f"{escape(name)}{place}<br>%{{x:.3g}}% zeroed: %{{y:.4g}}<extra></extra>",
        meta=name,
    )


def _paired_bounds(curve: pd.DataFrame, metric: Metric) -> list[pd.Series]:
    """The ends of the intervals to draw: of the paired change, where known, or of the value itself.

    Items differ more from each other than by what zeroing does to them, so that the interval of the
    value hides what the paired one shows.
    """
    change, low, high = (_column(curve, name) for name in ("change", "change_low", "change_high"))
    if np.isfinite(low).all() and np.isfinite(high).all():
        before = curve[metric] - change
        return [before + low, before + high]
    return [_column(curve, bound) for bound in metric.bounds]


def _curve(
    curve: pd.DataFrame,
    metric: Metric,
    rank: int | None,
    bounds: Sequence[pd.Series],
    *,
    strong: bool,
) -> go.Scatter:
    name = str(curve["score"].iloc[0])
    style, values = line_style(name), curve[metric]
    low, high = bounds
    hover = []
    for at, value, least, most in zip(curve["percent_zeroed"], values, low, high, strict=True):
        interval = "" if np.isnan(least + most) else f" [{least:.4g}, {most:.4g}]"
        hover.append(f"{escape(name)}<br>{at:.3g}% zeroed: {value:.4g}{interval}")
    bars: dict[str, Any] = {"visible": False}
    if np.isfinite(low).all() and np.isfinite(high).all():
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
    """Score → rank, the best first; the scores without ranks if the curves cannot be ranked."""
    try:
        table = ranked(rows, metric=metric, within=None)
    except UserError:
        return dict.fromkeys(map(str, rows["score"].unique()))
    return {str(name): int(rank) for name, rank in zip(table["score"], table["rank"], strict=True)}


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name in table:
        return table[name].astype(float)
    return pd.Series(np.nan, index=table.index, dtype=float)
