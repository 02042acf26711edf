"""Scores compared across models: which is best where, how often, and whether models agree.

All functions take the table that `rank_scores` returns, for one task and mode (`one_setting`).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from inactive_heads.analysis.curves.ranking import reach_column
from inactive_heads.analysis.curves.ties import ROUNDING, best_rows, joined, tied_ranks
from inactive_heads.errors import UserError
from inactive_heads.names import is_baseline

REFERENCE = "AWFT"
"""The score that others are compared with: the one that work on attention sinks looks at."""


def compare_models(ranking: pd.DataFrame, *, reference: str = REFERENCE) -> pd.DataFrame:
    """Return one row per model: what the reference score finds, and what the best score finds.

        table = compare_models(rank_scores(curves))
        table["gain"].mean()  # in percentage points of heads

    Args:
        ranking: from `rank_scores`, for one task and mode.
        reference: the score to compare the best one with.

    Returns:
        A table with the columns model; reference and best, the percent of heads that can be zeroed
        by the reference score and by the score that allows most; gain, best minus reference;
        best_score (among equals, the one of better rank); top_score, the first by normalized AUC;
        and normalized_auc, that of best_score. Scores that tie are named together: "AHON and LTHON".
        Baselines take no part. ``reference`` and ``gain`` are NaN for a model without the reference
        score.

    Raises:
        UserError: the table is not from `rank_scores`, or holds several tasks or modes.
    """
    reach, rows = reach_column(ranking), []
    for model, group in one_setting(ranking).groupby("model", sort=False):
        ordered = group.sort_values("rank", kind="stable")
        equal = best_rows(ordered, reach, rounding=ROUNDING * 100)
        equal = equal[equal["rank"] == equal["rank"].min()]
        best, named = equal.iloc[0], joined(list(equal["score"]))
        own = ordered.loc[ordered["score"] == reference, reach]
        known = float(own.iloc[0]) if len(own) else float("nan")
        gain = float(best[reach]) - known
        area = float(best["normalized_auc"])
        top = joined(list(ordered.loc[ordered["rank"] == ordered["rank"].min(), "score"]))
        rows.append((model, known, float(best[reach]), gain, named, top, area))
    columns = ["model", "reference", "best", "gain", "best_score", "top_score", "normalized_auc"]
    return pd.DataFrame(rows, columns=columns)


def count_ranks(ranking: pd.DataFrame, *, top: int = 3) -> pd.DataFrame:
    """Return how often each score is first and among the first ``top``, best scores first.

    Args:
        ranking: from `rank_scores`, for one task and mode. Baselines take part.
        top: how many ranks count as top.

    Returns:
        One row per score, with the columns score; models, on how many it was run; first and
        ``top_3``, on how many it is first and among the first three (named after ``top``);
        mean_rank; mean_normalized_auc; and the mean over models of the ``percent_within_…`` column.

    Raises:
        UserError: the table is not from `rank_scores`, or holds several tasks or modes.
    """
    reach = reach_column(ranking)
    by_score = one_setting(ranking, with_baselines=True).groupby("score", sort=False)
    table = pd.DataFrame(
        {
            "models": by_score["model"].nunique(),
            "first": by_score["rank"].agg(lambda ranks: int((ranks == 1).sum())),
            f"top_{top}": by_score["rank"].agg(lambda ranks: int((ranks <= top).sum())),
            "mean_rank": by_score["rank"].mean(),
            "mean_normalized_auc": by_score["normalized_auc"].mean(),
            f"mean_{reach}": by_score[reach].mean(),
        }
    )
    order = ["first", f"top_{top}", "mean_rank"]
    return table.sort_values(order, ascending=[False, False, True], kind="stable").reset_index()


def rank_table(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the rank of every score on every model: scores × models, the best mean rank first.

    Args:
        ranking: from `rank_scores`, for one task and mode. Baselines take part.

    Returns:
        A table of ranks, 1 for the best; NaN where a model was not run with a score.

    Raises:
        UserError: the ranking holds several tasks or modes.
    """
    ranks = _pivot(one_setting(ranking, with_baselines=True), "rank")
    return ranks.loc[ranks.mean(axis=1).sort_values(kind="stable").index]


def rank_correlations(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation of the normalized AUCs of every two models: models × models.

    Args:
        ranking: from `rank_scores`, for one task and mode. Baselines are left out.

    Returns:
        Correlations between -1 and 1, over the scores that both models have; 1 on the diagonal. NaN
        where fewer than two scores are shared, or one side is constant.

    Raises:
        UserError: the ranking holds several tasks or modes.
    """
    areas = _pivot(one_setting(ranking), "normalized_auc")
    table = _square(areas)
    for one, other in combinations(areas.columns, 2):
        shared = areas[[one, other]].dropna().apply(_without_rounding)
        table.loc[one, other] = table.loc[other, one] = _spearman(shared[one], shared[other])
    return table


def top_overlap(ranking: pd.DataFrame, *, top: int = 5) -> pd.DataFrame:
    """Return the overlap of the best scores of every two models: models × models.

    Args:
        ranking: from `rank_scores`, for one task and mode. Baselines are left out.
        top: how many scores, by rank, count as a model's best; ties with the last do too.

    Returns:
        Intersection over union of the two sets of scores, 0 to 1; 1 on the diagonal.

    Raises:
        UserError: the ranking holds several tasks or modes.
    """
    ranks = _pivot(one_setting(ranking), "rank")
    best = {model: _top(ranks[model], top) for model in ranks}
    table = _square(ranks)
    for one, other in combinations(ranks.columns, 2):
        overlap = len(best[one] & best[other]) / len(best[one] | best[other])
        table.loc[one, other] = table.loc[other, one] = overlap
    return table


def rank_agreement(
    ranking: pd.DataFrame, first: str, second: str, *, top: int = 5
) -> dict[str, float]:
    """Return how much two models agree on the order of the scores.

    Args:
        ranking: from `rank_scores`, for one task and mode. Baselines are left out.
        first: the name of one model.
        second: the name of the other.
        top: how many scores, by rank, count as a model's best.

    Returns:
        ``spearman``, the correlation of the normalized AUCs (see `rank_correlations`), and
        ``top_iou``, intersection over union of the best scores (see `top_overlap`).

    Raises:
        UserError: a model is not in the ranking, or it holds several tasks or modes.
    """
    chosen = one_setting(ranking)
    known = list(dict.fromkeys(chosen["model"]))
    for model in (first, second):
        if model not in known:
            raise UserError(f"no ranking of the model {model!r}; there is {known}")
    two = chosen[chosen["model"].isin([first, second])]
    return {
        "spearman": float(rank_correlations(two).loc[first, second]),
        "top_iou": float(top_overlap(two, top=top).loc[first, second]),
    }


def one_setting(ranking: pd.DataFrame, *, with_baselines: bool = False) -> pd.DataFrame:
    """Return the ranking, checked to be of one task and mode, without baselines by default.

    Args:
        ranking: from `rank_scores`.
        with_baselines: whether to keep the rows of baselines.

    Returns:
        The rows of ``ranking``, unchanged.

    Raises:
        UserError: the ranking holds several tasks or modes.
    """
    if ranking.duplicated(["model", "score"]).any():
        raise UserError("the ranking holds several tasks or modes: choose one of each first")
    return ranking if with_baselines else ranking[~ranking["score"].map(is_baseline)]


def _pivot(ranking: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column as scores × models, both in order of appearance."""
    table = ranking.pivot_table(index="score", columns="model", values=column)
    order = [list(dict.fromkeys(ranking[name])) for name in ("score", "model")]
    return table.loc[order[0], order[1]]


def _square(table: pd.DataFrame) -> pd.DataFrame:
    """A table of models × models: 1 on the diagonal, NaN elsewhere."""
    names, size = pd.Index(table.columns, name="model"), table.shape[1]
    values = np.full((size, size), np.nan)
    np.fill_diagonal(values, 1.0)
    return pd.DataFrame(values, index=names, columns=names.rename("other"))


def _without_rounding(areas: pd.Series) -> pd.Series:
    rounding = ROUNDING * float(areas.abs().max())
    return tied_ranks(areas, higher_is_better=False, rounding=rounding)


def _spearman(one: pd.Series, other: pd.Series) -> float:
    if len(one) < 2 or one.nunique() < 2 or other.nunique() < 2:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)


def _top(ranks: pd.Series, top: int) -> set[str]:
    """The first ``top`` scores by rank, and those that tie with the last of them."""
    known = ranks.dropna()
    return set(known.index[known.rank(method="min") <= top])
