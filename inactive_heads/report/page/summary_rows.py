"""What tables and sentences read from the rows of a summary and of the curves behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric, Tolerances
from inactive_heads.analysis.curves.ranking import ranked
from inactive_heads.analysis.curves.table import CURVE_KEYS, baseline_row

CHANGE = ("change_low", "change_high")
"""The columns with the ends of the paired interval of the change from the unablated model."""


def tolerance(metric: Metric, within: Tolerances) -> str:
    """Return how much worse still counts as unharmed, in words: "1 point" or "0.05 nats".

    Args:
        metric: the metric.
        within: the tolerances asked for; a metric that is not in it has its own.
    """
    return metric.amount(within.get(metric, metric.tolerance))


def start_row(keys: tuple[Any, ...], curves: pd.DataFrame | None) -> pd.Series | None:
    """Return the row of the unablated model, for one model, task and mode; None if there is none.

    Args:
        keys: model, task and mode.
        curves: the curves of all models; may be None.

    Returns:
        The row, or None.
    """
    return None if curves is None else baseline_row(_of(curves, keys))


def with_reach(
    group: pd.DataFrame,
    curves: pd.DataFrame | None,
    keys: tuple[Any, ...],
    metric: Metric,
    within: Tolerances,
) -> pd.DataFrame:
    """Return summary rows with the column of how many heads can be zeroed within a tolerance.

    Args:
        group: the rows of one model, task and mode.
        curves: the curves of all models; None leaves a tolerance other than the usual one unknown.
        keys: model, task and mode.
        metric: the metric that they are judged by.
        within: the tolerances asked for.

    Returns:
        The rows with the column `Metric.within_column`, in percent of heads.

    Raises:
        UserError: a curve cannot be ranked.
    """
    column = metric.within_column(within.get(metric))
    if column in group or curves is None:
        return group.assign(**{column: group.get(column, np.nan)})
    ranks = ranked(_of(curves, keys), metric=metric, within=within.get(metric))
    return group.merge(ranks[["score", column]], on="score", how="left")


def most_zeroed(curves: pd.DataFrame | None, keys: tuple[Any, ...], score: str) -> float:
    """Return the largest percent of heads that was zeroed by a score; infinity if unknown.

    Args:
        curves: the curves of all models; may be None.
        keys: model, task and mode.
        score: the score.
    """
    if curves is None:
        return float("inf")
    own = _of(curves, keys)
    return float(own.loc[own["score"] == score, "percent_zeroed"].max())


def _of(curves: pd.DataFrame, keys: tuple[Any, ...]) -> pd.DataFrame:
    return curves[(curves[CURVE_KEYS] == list(keys)).all(axis=1)]
