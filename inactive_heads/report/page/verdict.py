"""The results in words: the sentences that a reader takes away from a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric, MetricName, get_metric
from inactive_heads.analysis.curves.model_comparison import REFERENCE, compare_models, count_ranks
from inactive_heads.analysis.curves.ranking import reach_column
from inactive_heads.analysis.curves.table import CURVE_KEYS, RANDOM, baseline_row, metric_of
from inactive_heads.analysis.curves.ties import joined

CHANGE = ("change_low", "change_high")


def verdict(summary: pd.DataFrame | None, curves: pd.DataFrame | None) -> list[str]:
    """Return the results in plain sentences, one text per model, task and mode.

    A text names the best score by its whole curve, what zeroing its heads does at the percent of
    ``summary``, and what zeroing as many at random does. Two results are called not
    distinguishable if their 95% intervals overlap: those of the paired changes, if known.

    Args:
        summary: from `summarize`; None if no task was run.
        curves: the curves behind it, for the unablated model; may be None.

    Returns:
        One text per model, task and mode; a single sentence if no task was run.
    """
    if summary is None or summary["rank"].isna().all():
        return [
            "No task was run: this page shows what the heads look like, "
            "not what the model can do without them."
        ]
    groups = summary.groupby(CURVE_KEYS, sort=False, dropna=False)
    several = summary["model"].drop_duplicates().size > 1
    return [_words(keys, group, curves, several) for keys, group in groups]


def compared(ranking: pd.DataFrame, setting: str, metric: Metric | MetricName) -> str:
    """Return the comparison of several models in plain sentences.

    They say what the reference and the best score of each model find on average, and which score is
    most often first and among the first three.

    Args:
        ranking: from `rank_scores`, of one task and mode and several models.
        setting: the task and mode in words.
        metric: the metric that the ranking is by.

    Returns:
        The sentences as one text.

    Raises:
        UserError: the metric is unknown, or the ranking is of several tasks or modes.
    """
    table, counts = compare_models(ranking), count_ranks(ranking)
    means = table[["reference", "best"]].mean()
    metric = get_metric(metric)
    reach = metric.amount(metric.within_of(reach_column(ranking)))
    known = table.dropna(subset="reference")
    text = f"On {setting}, over {len(table)} models: "
    if len(known) == len(table):
        text += f"{REFERENCE} finds {means['reference']:.2f}% of heads that can be zeroed within "
        text += f"{reach} of the model with every head, the best score of each model "
    else:
        text += f"within {reach} of the model with every head, the best score of each model finds "
    text += f"{means['best']:.2f}%, on average."
    named = counts[counts["score"] != RANDOM]
    if len(named):
        best = named.iloc[0]
        # Mean ranks are of whole numbers: equal ones are equal to the last digit.
        order = ["first", "top_3", "mean_rank"]
        equal = named[(named[order] == best[order]).all(axis=1)]
        has, is_ = ("has", "is") if len(equal) == 1 else ("each have", "are")
        text += (
            f" {joined(list(equal['score']))} {has} the best normalized AUC on {best['first']} of "
            f"{best['models']} models and {is_} among the first three on {best['top_3']}."
        )
    random = counts.loc[counts["score"] == RANDOM, "first"]
    if len(random) and random.iloc[0]:
        text += f" Random is first on {random.iloc[0]}."
    return text


def start_row(keys: tuple[Any, ...], curves: pd.DataFrame | None) -> pd.Series | None:
    """Return the row of the unablated model, for one model, task and mode; None if there is none.

    Args:
        keys: model, task and mode.
        curves: the curves of all models; may be None.

    Returns:
        The row, or None.
    """
    if curves is None:
        return None
    for other, group in curves.groupby(CURVE_KEYS, sort=False, dropna=False):
        if other == keys:
            return baseline_row(group)
    return None


def _words(
    keys: tuple[Any, ...], group: pd.DataFrame, curves: pd.DataFrame | None, several: bool
) -> str:
    model, task, mode = (str(key) for key in keys)
    where = f"{model}, {task} ({mode})" if several else f"{task} ({mode})"
    metric = metric_of(group)
    ranked, random = (
        group.sort_values("rank", kind="stable"),
        _first(group[group["score"] == RANDOM]),
    )
    best = _first(ranked[ranked["score"] != RANDOM])
    if best is None:
        return f"On {where}, only heads chosen at random were zeroed."
    before = best[metric] - best[f"{metric}_change"]
    text = (
        f"On {where}, zeroing the {best['percent_zeroed']:.1f}% of heads that {best['score']} "
        f"calls inactive takes {metric.subject} from {metric.written(before)} to "
        f"{metric.with_unit(best[metric])} ({metric.signed(best[metric] - before)})"
    )
    if random is not None:
        text += (
            f"; zeroing {random['percent_zeroed']:.1f}% at random takes it to "
            f"{metric.written(random[metric])} ({metric.signed(random[f'{metric}_change'])})"
        )
    text += "." + _apart(best, random, start_row(keys, curves), metric)
    text += _next(best, ranked, metric)
    if random is not None and random["rank"] < best["rank"]:
        text += " Over its whole curve, Random did better than every score."
    if random is not None and random["rank"] == best["rank"]:
        text += " Over its whole curve, Random did as well."
    return text.replace("(-", "(−")


def _apart(
    best: pd.Series, random: pd.Series | None, start: pd.Series | None, metric: Metric
) -> str:
    """What the best score can be told apart from; empty if no interval is known."""
    same: list[str] = []
    different: list[str] = []
    for other, name in ((random, "Random"), (start, "the model with every head")):
        overlap = None if other is None else _overlap(best, other, metric)
        if overlap is not None:
            (same if overlap else different).append(name)
    text = ""
    if same:
        names = " or from ".join(same)
        text += f" {best['score']} is not distinguishable from {names}: the 95% intervals overlap."
    if different:
        names = " or of ".join(different)
        text += f" Its 95% interval does not overlap that of {names}."
    return text


def _next(best: pd.Series, ranked: pd.DataFrame, metric: Metric) -> str:
    """Whether the best score ties, or is shown to beat the next one; empty where that is not known."""
    first = ranked[(ranked["rank"] == best["rank"]) & (ranked["score"] != RANDOM)]
    if len(first) > 1:
        return f" {joined(list(first['score']))} tie: their whole curves are equally good."
    below = ranked.iloc[list(ranked.index).index(best.name) + 1 :]
    lead = float(best.get("lead", np.nan))
    if below.empty or not np.isfinite(lead):
        return ""
    after, many = below.iloc[0]["score"], best["n_to_tell"]
    if best["better_than_next"] is True or best["better_than_next"] == 1:
        return f" Over its whole curve it is better than {after}, the next (paired 95% interval)."
    text = f" It is not shown to be better than {after}, the next by its whole curve"
    if np.isfinite(many):
        text += f"; that would take about {many:,.0f} {metric.items}"
    return text + "."


def _overlap(one: pd.Series, other: pd.Series, metric: Metric) -> bool | None:
    """Whether two intervals overlap; None if one of them is not known.

    They are those of the paired changes from the unablated model, if both are known.
    """
    for low, high in (CHANGE, metric.bounds):
        bounds = [float(row.get(bound, np.nan)) for row in (one, other) for bound in (low, high)]
        if np.isfinite(bounds).all():
            return bounds[0] <= bounds[3] and bounds[2] <= bounds[1]
    return None


def _first(rows: pd.DataFrame) -> pd.Series | None:
    return None if rows.empty else rows.iloc[0]
