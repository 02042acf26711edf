"""Scores compared over many models: who is best where, how often, and do models agree.

Everything here reads the table of `rank_scores`, for one task and mode (`one_setting`).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from inactive_heads.analysis.curves.ranking import reach_column
from inactive_heads.analysis.curves.table import RANDOM
from inactive_heads.errors import UserError

REFERENCE = "AWFT"
"""The score that others are compared with: what the literature on attention sinks looks at."""


def compare_models(ranking: pd.DataFrame, *, reference: str = REFERENCE) -> pd.DataFrame:
    """The table of models: what ``reference`` finds against the best score, a row per model.

    Columns: model; ``reference`` and ``best``, the % of heads that can be zeroed by the reference
    score and by the score with which most can; ``gain``, their difference in % of heads;
    best_score (of equally good ones that of the better rank); top_score, the first by normalized
    AUC; normalized_auc of best_score. Random takes no part. Where a model was not run with the
    reference, ``reference`` and ``gain`` are NaN.
    """
    reach, rows = reach_column(ranking), []
    for model, group in one_setting(ranking).groupby("model", sort=False):
        ordered = group.sort_values("rank", kind="stable")
        best = ordered.loc[ordered[reach].idxmax()]
        own = ordered.loc[ordered["score"] == reference, reach]
        known = float(own.iloc[0]) if len(own) else float("nan")
        gain = float(best[reach]) - known
        area = float(best["normalized_auc"])
        top = str(ordered["score"].iloc[0])
        rows.append((model, known, float(best[reach]), gain, best["score"], top, area))
    columns = ["model", "reference", "best", "gain", "best_score", "top_score", "normalized_auc"]
    return pd.DataFrame(rows, columns=columns)


def count_ranks(ranking: pd.DataFrame, *, top: int = 3) -> pd.DataFrame:
    """How often each score is first and among the ``top``, the most often first first.

    Columns: score, models (on how many it was run), first, ``top_3``, mean_rank, and the means
    over models of the normalized AUC and of how much can be zeroed. Ranks are those of the table,
    in which Random takes part and has a row too.
    """
    reach = reach_column(ranking)
    by_score = one_setting(ranking, with_random=True).groupby("score", sort=False)
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
    """Every score's rank on every model: scores (the best on average first) × models."""
    ranks = _pivot(one_setting(ranking, with_random=True), "rank")
    return ranks.loc[ranks.mean(axis=1).sort_values(kind="stable").index]


def rank_correlations(ranking: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of every two models' normalized AUCs, models × models.

    Over the scores that both models have, without Random. NaN where fewer than two are shared or
    one side is constant.
    """
    areas = _pivot(one_setting(ranking), "normalized_auc")
    table = _square(areas)
    for one, other in combinations(areas.columns, 2):
        shared = areas[[one, other]].dropna()
        table.loc[one, other] = table.loc[other, one] = _spearman(shared[one], shared[other])
    return table


def top_overlap(ranking: pd.DataFrame, *, top: int = 5) -> pd.DataFrame:
    """Intersection over union of every two models' ``top`` scores by rank, models × models."""
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
    """How alike two models rank the scores: ``spearman`` of their AUCs, ``top_iou`` of their best.

    ``ranking`` comes from ``rank_scores``, for one task and mode; Random is left out. The
    intersection over union is that of the two sets of ``top`` scores.
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


def one_setting(ranking: pd.DataFrame, *, with_random: bool = False) -> pd.DataFrame:
    """The ranking, without Random unless it is asked for; it must be of one task and mode.

    Raises:
        UserError: it holds several tasks or modes.
    """
    if ranking.duplicated(["model", "score"]).any():
        raise UserError("the ranking holds several tasks or modes: choose one of each first")
    return ranking if with_random else ranking[ranking["score"] != RANDOM]


def _pivot(ranking: pd.DataFrame, column: str) -> pd.DataFrame:
    """Scores × models, both in the order in which they appear."""
    table = ranking.pivot_table(index="score", columns="model", values=column)
    order = [list(dict.fromkeys(ranking[name])) for name in ("score", "model")]
    return table.loc[order[0], order[1]]


def _square(table: pd.DataFrame) -> pd.DataFrame:
    """Models × models: 1 on the diagonal, NaN elsewhere."""
    names, size = pd.Index(table.columns, name="model"), table.shape[1]
    values = np.full((size, size), np.nan)
    np.fill_diagonal(values, 1.0)
    return pd.DataFrame(values, index=names, columns=names.rename("other"))


def _spearman(one: pd.Series, other: pd.Series) -> float:
    if len(one) < 2 or one.nunique() < 2 or other.nunique() < 2:
        return float("nan")
    return float(stats.spearmanr(one, other).statistic)


def _top(ranks: pd.Series, top: int) -> set[str]:
    """The ``top`` scores by rank; of equal ranks the one that stands first in the table."""
    return set(ranks.dropna().sort_values(kind="stable").index[:top])
