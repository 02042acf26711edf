"""Scores of one model ranked by their curves."""

from __future__ import annotations

import warnings

import pandas as pd

from inactive_heads.analysis.curves.area import normalized_auc, percent_within
from inactive_heads.analysis.curves.metrics import Metric, MetricName, get_metric
from inactive_heads.analysis.curves.table import (
    CURVE_KEYS,
    as_curves,
    baseline_row,
    groups_of,
    require,
)
from inactive_heads.analysis.curves.ties import tied_ranks
from inactive_heads.errors import Notice, UserError

NEARLY_NONE = 0.1
"""The percent of heads up to which a curve's first point serves as the model with every head."""


def within_column(metric: Metric | MetricName, within: float | None = None) -> str:
    """Return the name of the column with the percent of heads that can be zeroed.

    >>> within_column("accuracy"), within_column("loss", 0.1)
    ('percent_within_1pt', 'percent_within_0.1_nats')

    Args:
        metric: the metric of the curves.
        within: the tolerance, in points or nats; by default the metric's own.

    Raises:
        UserError: the metric is unknown.
    """
    return get_metric(metric).within_column(within)


def reach_column(ranking: pd.DataFrame) -> str:
    """Return the column of a ranking with the percent of heads that can be zeroed.

    Args:
        ranking: from `rank_scores`, with any tolerance.

    Returns:
        The name of the column, such as ``percent_within_1pt``.

    Raises:
        UserError: there is no such column.
    """
    found = [str(column) for column in ranking if str(column).startswith("percent_within_")]
    if not found:
        raise UserError(f"this is no table from rank_scores; it has {list(ranking.columns)}")
    return found[0]


def rank_scores(
    curves: pd.DataFrame,
    *,
    metric: Metric | MetricName = "accuracy",
    within: float | None = None,
) -> pd.DataFrame:
    """Return the scores of every model, task and mode, the best first.

        ranking = rank_scores(curves, metric="loss")
        ranking[ranking["rank"] == 1]

    The baseline is Random's point with no head zeroed; without one, each curve's own first point,
    with a `Notice` if heads are zeroed there. Scores whose areas differ by rounding only tie: they
    share the lowest of their ranks. A score that never zeroed a head at any percent has no curve and is left out: with one key/value
    head, for example, FTVVN (LN) is 1 for every head. Groups measured by the other metric are left
    out too.

    Args:
        curves: from `sweep` or `read_curves`, of any number of models, tasks and modes; or any table
            of the form that `read_curves` reads.
        metric: the metric to rank by.
        within: how much worse still counts as unharmed, in points of accuracy or nats of loss; by
            default 1 point or 0.05 nats.

    Returns:
        One row per model, task, mode and score, sorted by rank within each group, with the columns
        model, task, mode, score, normalized_auc (in % accuracy or nats per token), the percent of
        heads that can be zeroed within the tolerance, and rank. That percent is in
        ``percent_within_1pt`` for accuracy and ``percent_within_0.05_nats`` for loss; the name
        follows ``within``. Rank 1 is the best normalized AUC; Random is ranked too.

    Raises:
        UserError: the table is not one of curves (see `read_curves`), no group has a value of the
            metric, ``within`` is negative, or a curve has a NaN or a single point.
    """
    table = ranked(curves, metric=metric, within=within)
    for keys, group in groups_of(as_curves(curves), get_metric(metric)):
        own = group.groupby("score", sort=False)["percent_zeroed"].min()
        late = own[(own > NEARLY_NONE) & (baseline_row(group) is None)]
        for score, percent in late.items():
            warnings.warn(
                f"the curve of {score!r} ({', '.join(map(str, keys))}) has no point without zeroed "
                f"heads: what can be zeroed is measured from {percent:g}% on; add a row with 0",
                Notice,
                stacklevel=2,
            )
    return table


def ranked(
    curves: pd.DataFrame, *, metric: Metric | MetricName, within: float | None
) -> pd.DataFrame:
    """Return the table of `rank_scores`, without a `Notice` where the unablated model is missing.

    Args:
        curves: as `rank_scores` takes them.
        metric: the metric to rank by.
        within: how much worse still counts as unharmed; None for the metric's own.

    Raises:
        UserError: as for `rank_scores`.
    """
    metric = get_metric(metric)
    if within is not None and (isinstance(within, str) or not within >= 0):
        raise UserError(f"within={within!r} must be a number, 0 or more")
    given, curves = curves, as_curves(curves)
    if curves[metric].isna().all():
        require(given, [metric], "the table of curves")
    column, rows = metric.within_column(within), []
    tolerance = metric.tolerance if within is None else within
    for keys, group in groups_of(curves, metric):
        start = baseline_row(group)
        for score, curve in group.groupby("score", sort=False):
            if len(curve) > 1 and not curve["percent_zeroed"].any():
                continue
            named = f"the curve of {score!r} ({', '.join(str(key) for key in keys)})"
            baseline = None if start is None else float(start[metric])
            try:
                area = normalized_auc(curve["percent_zeroed"], curve[metric])
                reach = percent_within(
                    curve["percent_zeroed"],
                    curve[metric],
                    within=tolerance,
                    baseline=baseline,
                    direction=metric.direction,
                )
            except UserError as error:
                raise UserError(f"{named}: {error}") from None
            rows.append((*keys, score, area, reach))
    table = pd.DataFrame(rows, columns=[*CURVE_KEYS, "score", "normalized_auc", column])
    areas = table.groupby(CURVE_KEYS, sort=False)["normalized_auc"]
    better, rounding = metric.higher_is_better, metric.rounding
    table["rank"] = areas.transform(tied_ranks, higher_is_better=better, rounding=rounding)
    return table.sort_values([*CURVE_KEYS, "rank"], kind="stable", ignore_index=True)
