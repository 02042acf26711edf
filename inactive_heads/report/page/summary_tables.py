"""The tables on single models: the summary at one percent of heads, the ranking, its certainty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric, Tolerances
from inactive_heads.analysis.curves.ranking import ranked
from inactive_heads.analysis.curves.summary import RANKING_COLUMNS
from inactive_heads.analysis.curves.table import CURVE_KEYS, metric_of
from inactive_heads.report.page.parts import (
    Cell,
    Shown,
    Table,
    as_csv,
    cell,
    frame_table,
    group_title,
    number,
)
from inactive_heads.report.page.verdict import CHANGE, start_row


def tolerance(metric: Metric, within: Tolerances) -> str:
    """Return how much worse still counts as unharmed, in words: "1 point" or "0.05 nats".

    Args:
        metric: the metric.
        within: the tolerances asked for; a metric that is not in it has its own.
    """
    return metric.amount(within.get(metric, metric.tolerance))


def summary_tables(
    summary: pd.DataFrame,
    curves: pd.DataFrame | None,
    within: Tolerances,
    *,
    several: bool,
) -> list[Table]:
    """Return the summary as tables, one per model, task and mode.

    Args:
        summary: from `summarize`; rows without a rank become tables of thresholds.
        curves: the curves behind it, for the unablated model and other tolerances; may be None.
        within: the tolerances asked for.
        several: whether the page has several models, so that each table is shown for its own.

    Returns:
        Tables of thresholds, one per model, then tables of ranked scores, one per model, task and
        mode.

    Raises:
        UserError: a curve cannot be ranked.
    """
    unranked = summary[summary["rank"].isna()]
    columns = {"score": ("score", ""), "threshold": ("threshold", ".3g")}
    tables = [
        frame_table(
            f"{model}: thresholds" if several else "Thresholds",
            group[["score", "percent", "threshold"]],
            columns,
            shown=Shown(model=str(model) if several else None),
        )
        for model, group in unranked.groupby("model", sort=False)
    ]
    ranked = summary[summary["rank"].notna()]
    for keys, group in ranked.groupby(CURVE_KEYS, sort=False, dropna=False):
        metric, start = metric_of(group), start_row(keys, curves)
        value = metric.heading
        intervals = group[list(metric.bounds)].notna().all(axis=None)
        value += " [95%\u00a0interval]" if intervals else ""
        titles = ["rank", "score", value, "change", "zeroed, %", "normalized AUC"]
        titles += [f"% zeroable within {tolerance(metric, within)}", "threshold"]
        note = "" if start is None else f"No head zeroed: {_interval(start, metric)}"
        if start is not None and np.isfinite(count := float(start.get("n", np.nan))):
            note += f", n = {count:.0f}"
        group = _with_reach(group, curves, keys, metric, within)
        column = metric.within_column(within.get(metric))
        ordered = group.sort_values("rank", kind="stable")
        rows = [_cells(row, metric, column) for _, row in ordered.iterrows()]
        tables.append(
            Table(
                group_title(keys, several),
                titles,
                rows,
                as_csv(ordered.dropna(axis=1, how="all")),
                note=note,
                shown=Shown(model=str(keys[0]) if several else None),
            )
        )
    return tables


def certainty_tables(
    summary: pd.DataFrame, curves: pd.DataFrame | None, within: Tolerances, *, several: bool
) -> list[Table]:
    """Return how certain the ranking of each model, task and mode is.

    Args:
        summary: from `with_certainty`; groups without per-item outcomes are left out.
        curves: the curves behind it, for other tolerances; may be None.
        within: the tolerances asked for.
        several: whether the page has several models, so that each table is shown for its own.

    Returns:
        One table per model, task and mode.

    Raises:
        UserError: a curve cannot be ranked.
    """
    tables = []
    known = summary[summary["first"].notna()]
    for keys, group in known.groupby(CURVE_KEYS, sort=False, dropna=False):
        metric = metric_of(group)
        group = _with_reach(group, curves, keys, metric, within)
        reach = metric.within_column(within.get(metric))
        ordered = group.sort_values("rank", kind="stable")
        titles = ["rank", "score", "normalized AUC [95%\u00a0interval]"]
        titles += [f"% zeroable within {tolerance(metric, within)}"]
        titles += ["first, % of resamples", "lead over the next [interval]", "better than the next"]
        titles += [f"{metric.items} to tell"]
        rows = [_sure(row, metric, reach) for _, row in ordered.iterrows()]
        columns = ["model", "task", "mode", "score", "rank", "normalized_auc", reach]
        columns += RANKING_COLUMNS
        tables.append(
            Table(
                f"{group_title(keys, several)}: how sure is the ranking?",
                titles,
                rows,
                as_csv(ordered[columns]),
                note=f"Paired: every score was judged by the same {metric.items}.",
                shown=Shown(model=str(keys[0]) if several else None),
            )
        )
    return tables


def _sure(row: pd.Series, metric: Metric, reach: str) -> list[Cell]:
    better = {True: "yes", False: "not shown"}.get(row["better_than_next"], "–")
    last = not np.isfinite(row["lead"])
    needed = row["n_to_tell"]
    return [
        number(row["rank"], ".0f"),
        cell(row["score"], ""),
        between(row["normalized_auc"], row["auc_low"], row["auc_high"], metric.auc_digits),
        between(row[reach], row["within_low"], row["within_high"], 1),
        number(100 * row["first"], ".0f"),
        between(row["lead"], row["lead_low"], row["lead_high"], metric.auc_digits),
        Cell("–" if last else better, better),
        Cell("∞", needed) if needed == np.inf else number(needed, ",.0f"),
    ]


def between(value: float, low: float, high: float, digits: int) -> Cell:
    """Return a cell with a value and its interval: ``1.2 [0.9, 1.5]``.

    Args:
        value: the value; a dash if it is not finite.
        low: the lower end of its interval; left out if an end is NaN, ∞ if unbounded.
        high: the upper end.
        digits: decimals of all three.

    Returns:
        The cell, which is sorted by the value.
    """
    if not np.isfinite(value):
        return number(value)
    text = f"{value:.{digits}f}"
    if not np.isnan(low + high):
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return Cell(_signs(text), float(value))


def _signs(text: str) -> str:
    return text.replace("-", "−").replace("inf", "∞")


def ranking_tables(
    ranking: pd.DataFrame, metric: Metric, within: Tolerances, *, several: bool
) -> list[Table]:
    """Return the ranking as tables, for curves that do not list the percents asked for.

    Args:
        ranking: from `rank_scores`.
        metric: the metric that it is by.
        within: the tolerances that it was made with.
        several: whether the page has several models, so that each table is shown for its own.

    Returns:
        One table per model, task and mode.
    """
    digits = f".{metric.digits + 1}f"
    columns = {
        "rank": ("rank", ".0f"),
        "score": ("score", ""),
        "normalized_auc": ("normalized AUC", digits),
        metric.within_column(within.get(metric)): (
            f"% zeroable within {tolerance(metric, within)}",
            ".2f",
        ),
    }
    return [
        frame_table(
            group_title(keys, several),
            group.sort_values("rank", kind="stable"),
            columns,
            shown=Shown(model=str(keys[0]) if several else None),
        )
        for keys, group in ranking.groupby(CURVE_KEYS, sort=False, dropna=False)
    ]


def _with_reach(
    group: pd.DataFrame,
    curves: pd.DataFrame | None,
    keys: tuple,
    metric: Metric,
    within: Tolerances,
) -> pd.DataFrame:
    """The group with the column of how many heads can be zeroed within the tolerance asked for."""
    column = metric.within_column(within.get(metric))
    if column in group or curves is None:
        return group.assign(**{column: group.get(column, np.nan)})
    own = curves[(curves[CURVE_KEYS] == list(keys)).all(axis=1)]
    ranks = ranked(own, metric=metric, within=within.get(metric))
    return group.merge(ranks[["score", column]], on="score", how="left")


def _cells(row: pd.Series, metric: Metric, reach: str) -> list[Cell]:
    return [
        number(row["rank"], ".0f"),
        cell(row["score"], ""),
        Cell(_interval(row, metric), float(row[metric])),
        Cell(_change(row, metric), float(row[f"{metric}_change"])),
        number(row["percent_zeroed"], ".1f"),
        number(row["normalized_auc"], f".{metric.digits}f"),
        number(row[reach], ".1f"),
        number(row["threshold"]),
    ]


def _interval(row: pd.Series, metric: Metric) -> str:
    """``61.2 [54.0, 68.1]``, or the value alone if its interval is not known."""
    digits = metric.digits
    value, low, high = (float(row[name]) for name in (metric, *metric.bounds))
    text = f"{value:.{digits}f}"
    return text if np.isnan(low + high) else _signs(f"{text} [{low:.{digits}f}, {high:.{digits}f}]")


def _change(row: pd.Series, metric: Metric) -> str:
    """``+0.064 [0.031, 0.098]``: the change from the baseline, with its paired interval."""
    digits, change = metric.digits, row[f"{metric}_change"]
    low, high = (float(row.get(name, np.nan)) for name in CHANGE)
    if not np.isfinite(change):
        return "–"
    text = f"{change:+.{digits}f}"
    text += "" if np.isnan(low + high) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return _signs(text)
