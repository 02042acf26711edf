"""One row per score at one percent of heads: the contents of ``summary.csv``."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.ranking import ranked
from inactive_heads.analysis.curves.table import (
    CURVE_KEYS,
    as_curves,
    baseline_row,
    groups_of,
    metrics_of,
)
from inactive_heads.errors import UserError
from inactive_heads.names import PAPER_SCORES

RANKING_COLUMNS = [
    *("auc_low", "auc_high", "within_low", "within_high", "first"),
    *("lead", "lead_low", "lead_high", "better_than_next", "n_to_tell"),
]
"""Columns that need per-item outcomes, from `inactive_heads.analysis.curves.rank_uncertainty`."""

SUMMARY_COLUMNS = [
    *("model", "task", "mode", "score", "percent", "threshold", "percent_zeroed"),
    *("accuracy", "ci_low", "ci_high", "accuracy_change"),
    *("loss", "loss_low", "loss_high", "loss_change", "n"),
    *("change_low", "change_high", "p_mcnemar", "answer_logprob_change"),
    *("kl", "top1_agreement"),
    *("normalized_auc", "percent_within_1pt", "percent_within_0.05_nats", "rank", "paper_rank"),
    *RANKING_COLUMNS,
]
"""The columns of `summarize`."""


def summarize(
    curves: pd.DataFrame | None, thresholds: xr.DataArray | None, *, percent: float
) -> pd.DataFrame:
    """Return one row per model, task, mode and score, at one percent of heads: ``summary.csv``.

        summarize(curves, thresholds, percent=10).sort_values("rank")

    Args:
        curves: from `sweep`; None gives the thresholds alone.
        thresholds: from `choose_thresholds`, for curves that do not list them; may be None.
        percent: the percent of heads asked for, one that every score was run at.

    Returns:
        A table with the columns ``SUMMARY_COLUMNS``. Accuracy is in %, loss in nats per token, each
        with its interval and its change from the baseline (negative means fewer right answers,
        positive means more loss); change_low to change_high is the paired interval of that change.
        normalized_auc, ``percent_within_…`` and rank describe the whole curve; paper_rank is the
        rank among the paper's scores alone. NaN where a task is
        not measured by a metric, and where a score never zeroed a head.

    Raises:
        UserError: a score has no point at ``percent`` (the message lists the percents it has), no
            curve has a value, or a curve cannot be ranked.
    """
    if curves is None or curves.empty:
        return _summary_of_thresholds(thresholds, percent)
    curves = as_curves(curves)
    rows: list[pd.DataFrame] = []
    for metric in metrics_of(curves):
        ranks = ranked(curves, metric=metric, within=None)
        for keys, group in groups_of(curves, metric):
            start = baseline_row(group)
            chosen = _rows_at(group, percent, keys)
            own = group.sort_values("percent_zeroed", kind="stable").groupby("score")[metric]
            before = chosen["score"].map(own.first()) if start is None else start[metric]
            chosen[f"{metric}_change"] = chosen[metric] - before
            rows.append(chosen.merge(ranks, on=[*CURVE_KEYS, "score"], how="left"))
    if not rows:
        raise UserError("no curve has a value: accuracy and loss are NaN throughout")
    table = pd.concat(rows, ignore_index=True).reindex(columns=SUMMARY_COLUMNS)
    table["threshold"] = [
        _threshold(thresholds, score, percent) if np.isnan(value) else value
        for score, value in zip(table["score"], table["threshold"].astype(float), strict=True)
    ]
    # Ranks of the paper's scores alone do not depend on which others were swept.
    paper = table[table["score"].isin(PAPER_SCORES)]
    table["paper_rank"] = paper.groupby(CURVE_KEYS, dropna=False)["rank"].rank(method="min")
    return table.sort_values([*CURVE_KEYS, "rank"], kind="stable", ignore_index=True)


def with_certainty(summary: pd.DataFrame, rankings: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the summary of one model with the `RANKING_COLUMNS` of its rankings filled in.

    Args:
        summary: from `summarize`, of one model.
        rankings: task → its table from `rank_uncertainty`; tasks without one keep NaN.

    Returns:
        The summary with its columns in the order of `summarize`.
    """
    known = [one.assign(task=task) for task, one in rankings.items()]
    if not known:
        return summary
    columns = ["task", "score", *RANKING_COLUMNS]
    wide = summary.drop(columns=RANKING_COLUMNS).merge(
        pd.concat(known, ignore_index=True)[columns], on=["task", "score"], how="left"
    )
    return wide[SUMMARY_COLUMNS]


def best_of(summary: pd.DataFrame, names: Collection[str]) -> str | None:
    """Return the best-ranked of some scores, or None if none of them is ranked.

    A ranking by loss takes precedence, because loss needs fewer items than accuracy. Of scores that
    tie, it is the first in the summary; `tied_with` names the others.

    Args:
        summary: from `summarize`, of one model.
        names: the scores to choose from.

    Returns:
        The score's name, or None.
    """
    first = _first_of(summary, names)
    return first[0] if first else None


def tied_with(summary: pd.DataFrame, best: str, names: Collection[str]) -> list[str]:
    """Return the scores that tie with the one that `best_of` returned.

    Args:
        summary: from `summarize`, of one model.
        best: the score that `best_of` returned.
        names: the scores that it chose from.

    Returns:
        Their names, in the order of the summary; empty if none ties.
    """
    first = _first_of(summary, names)
    return [name for name in first if name != best] if best in first else []


def _first_of(summary: pd.DataFrame, names: Collection[str]) -> list[str]:
    """The scores of the best rank, on the task that takes precedence."""
    judged = summary[summary["score"].isin(names) & summary["rank"].notna()]
    by_loss = judged[judged["loss"].notna()]
    judged = by_loss if len(by_loss) else judged
    first = judged.loc[judged["rank"] == judged["rank"].min(), "score"]
    return list(dict.fromkeys(map(str, first)))


def _rows_at(group: pd.DataFrame, percent: float, keys: tuple[Hashable, ...]) -> pd.DataFrame:
    """The rows of a group at one percent asked for; every score must have one."""
    chosen = group[np.isclose(group["percent"].astype(float), percent)].copy()
    for score, curve in group.groupby("score", sort=False):
        if score not in set(chosen["score"]):
            swept = ", ".join(f"{one:g}" for one in sorted(set(curve["percent"])))
            named = ", ".join(str(key) for key in keys)
            raise UserError(f"{score!r} ({named}) was not run at {percent:g}%, only at {swept}%")
    return chosen


def _summary_of_thresholds(thresholds: xr.DataArray | None, percent: float) -> pd.DataFrame:
    names = [] if thresholds is None else [str(name) for name in thresholds["score"].to_numpy()]
    rows: list[dict[str, Any]] = [
        {"score": name, "percent": percent, "threshold": _threshold(thresholds, name, percent)}
        for name in names
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _threshold(thresholds: xr.DataArray | None, score: str, percent: float) -> float:
    """The threshold of a score at a percent; NaN if there is none (Random, or another grid)."""
    if thresholds is None or score not in thresholds["score"].to_numpy():
        return float("nan")
    cuts = thresholds.sel(score=score)
    near = np.flatnonzero(np.isclose(cuts["percent"].to_numpy().astype(float), percent))
    return float(cuts.to_numpy()[near[0]]) if len(near) else float("nan")
