"""The tables on single models: every score at one percent of heads and over its whole curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import LOSS, Metric, Tolerances
from inactive_heads.analysis.curves.table import CURVE_KEYS, metric_of
from inactive_heads.analysis.curves.ties import joined
from inactive_heads.names import OURS, PAPER_SCORES, is_baseline
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
from inactive_heads.report.page.summary_rows import (
    CHANGE,
    start_row,
    tolerance,
    with_reach,
)

FAR_OFF = 2.0
"""A share really zeroed is remarked on if it is further than this from the one asked for, in points."""


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
        mode, a model's tasks judged by loss first.

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
    groups = list(ranked.groupby(CURVE_KEYS, sort=False, dropna=False))
    order = list(dict.fromkeys(ranked["model"]))
    groups.sort(key=lambda item: (order.index(item[0][0]), metric_of(item[1]) != LOSS))
    for keys, group in groups:
        metric = metric_of(group)
        rows = with_reach(group, curves, keys, metric, within).sort_values("rank", kind="stable")
        made = _columns(rows, metric, within)
        tables.append(
            Table(
                group_title(keys, several),
                list(made),
                [[make(row) for make in made.values()] for _, row in rows.iterrows()],
                as_csv(rows.dropna(axis=1, how="all")),
                note=_note(rows, start_row(keys, curves), metric),
                shown=Shown(model=str(keys[0]) if several else None),
            )
        )
    return tables


def _columns(
    rows: pd.DataFrame, metric: Metric, within: Tolerances
) -> dict[str, Callable[[pd.Series], Cell]]:
    """The table's columns: their headings, and what makes a cell of a row."""
    reach, digits = metric.within_column(within.get(metric)), metric.digits
    usual = within.get(metric, metric.tolerance) == metric.tolerance
    paired = bool(rows[list(CHANGE)].notna().any(axis=None))
    sure = bool(rows["first"].notna().any())
    known = rows[["auc_low", *CHANGE, *metric.bounds]].notna().any(axis=None)
    interval = " [95%\u00a0interval]" if known else ""
    columns: dict[str, Callable[[pd.Series], Cell]] = {
        "rank": lambda row: number(row["rank"], ".0f"),
        "score": lambda row: cell(row["score"], ""),
    }
    if not set(rows["score"][~rows["score"].map(is_baseline)]) <= {*PAPER_SCORES}:
        columns["paper’s rank"] = lambda row: number(row["paper_rank"], ".0f")
    if paired:
        columns[metric.heading] = lambda row: number(row[metric], f".{digits}f")
    else:
        columns[metric.heading + interval] = lambda row: _between(
            row, (metric, *metric.bounds), digits
        )
    columns["change" + (interval if paired else "")] = lambda row: _between(
        row, (f"{metric}_change", *CHANGE), digits, sign="+"
    )
    columns["zeroed, %"] = lambda row: number(row["percent_zeroed"], ".1f")
    heading = f"% zeroable within {tolerance(metric, within)}"
    if usual and sure:
        columns[heading + interval] = lambda row: _between(
            row, (reach, "within_low", "within_high"), 1
        )
    else:
        columns[heading] = lambda row: number(row[reach], ".1f")
    columns["normalized AUC"] = lambda row: number(row["normalized_auc"], f".{digits}f")
    if sure:
        columns["lead over the next" + interval] = lambda row: _between(
            row, ("lead", "lead_low", "lead_high"), metric.auc_digits
        )
    columns["threshold"] = lambda row: number(row["threshold"])
    return columns


def _note(rows: pd.DataFrame, start: pd.Series | None, metric: Metric) -> str:
    """What holds for the whole table: the unablated model, and shares that were missed."""
    parts = []
    if start is not None:
        text = f"No head zeroed: {_between(start, (metric, *metric.bounds), metric.digits).text}"
        if np.isfinite(count := float(start.get("n", np.nan))):
            text += f", {count:.0f} {metric.items}"
        parts.append(f"{text}.")
        if count < metric.fewest_items and np.isnan(start[list(metric.bounds)].astype(float)).all():
            parts.append(f"95% intervals are {metric.too_few}.")
    far = (rows["percent_zeroed"] - rows["percent"]).abs() > FAR_OFF
    off = rows[far & ~rows["score"].map(is_baseline)]
    if len(off):
        named = ", ".join(f"{row.score} {row.percent_zeroed:.1f}%" for row in off.itertuples())
        parts.append(
            f"Zeroed more than {FAR_OFF:g} points off the {rows['percent'].iloc[0]:g}% asked for: "
            f"{named}. Thresholds come from the model with every head, and zeroing heads changes "
            "the scores of the heads in later layers."
        )
    if ours := [name for name in rows["score"] if name in OURS]:
        parts.append(f"{joined(ours)}: of this project (docs/better_scores.md), not of the paper.")
    return " ".join(parts)


def _between(row: pd.Series, names: Sequence[str], digits: int, *, sign: str = "") -> Cell:
    value, low, high = (float(row[name]) for name in names)
    return between(value, low, high, digits, sign=sign)


def between(value: float, low: float, high: float, digits: int, *, sign: str = "") -> Cell:
    """Return a cell with a value and its interval: ``1.2 [0.9, 1.5]``.

    Args:
        value: the value; a dash if it is not finite.
        low: the lower end of its interval; left out if an end is NaN, ∞ if unbounded.
        high: the upper end.
        digits: decimals of all three.
        sign: "+" for a change, whose sign is always written.

    Returns:
        The cell, which is sorted by the value.
    """
    if not np.isfinite(value):
        return number(value)
    text = f"{value:{sign}.{digits}f}"
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
