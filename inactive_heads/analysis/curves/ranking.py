"""The scores of one model ranked by their curves."""

from __future__ import annotations

import pandas as pd

from inactive_heads.analysis.curves.area import normalized_auc, percent_within
from inactive_heads.analysis.curves.metrics import Metric, MetricName, get_metric
from inactive_heads.analysis.curves.table import CURVE_KEYS, baseline_row, groups_of
from inactive_heads.errors import UserError


def within_column(metric: Metric | MetricName, within: float | None = None) -> str:
    """The name of the column that holds how much can be zeroed: ``percent_within_1pt``."""
    return get_metric(metric).within_column(within)


def reach_column(ranking: pd.DataFrame) -> str:
    """The column of a ranking that says how much can be zeroed, whatever the tolerance."""
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
    """The scores of every model, task and mode, the best first.

    Columns: model, task, mode, score, normalized_auc (% accuracy, or nats per token), rank (1 is
    the best normalized AUC; Random is ranked too) and how much can be zeroed within a tolerance:
    ``percent_within_1pt`` for accuracy, ``percent_within_0.05_nats`` for loss. Another ``within``
    is named in the column. The baseline is Random's point at 0% (no head zeroed), or where there
    is none, each curve's own first point.

    A score that never zeroed a head, at whatever share, has no curve and is left out: with one
    key/value head, say, FTVVN (LN) is 1 for every head. Groups measured by the other metric are
    left out too; ``UserError`` when none is left, for a NaN among a group's values, and for a
    curve of a single point.
    """
    metric = get_metric(metric)
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
    areas = table.groupby(CURVE_KEYS, sort=False, dropna=False)["normalized_auc"]
    table["rank"] = areas.rank(method="min", ascending=not metric.higher_is_better).astype(int)
    return table.sort_values([*CURVE_KEYS, "rank"], kind="stable", ignore_index=True)
