"""Scores compared at equal percents of heads zeroed, and ranked among published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.area import normalized_auc
from inactive_heads.analysis.curves.intervals import score_intervals
from inactive_heads.analysis.curves.metrics import ACCURACY
from inactive_heads.analysis.curves.paired import Interval, paired_change
from inactive_heads.analysis.curves.table import as_curves, baseline_row
from inactive_heads.analysis.curves.ties import joined, tied_ranks
from inactive_heads.errors import UserError
from inactive_heads.evaluation.outcomes import CONFIDENCE, Outcomes
from inactive_heads.names import PAPER_SCORES, is_baseline
from inactive_heads.sweeps.results import Sweep


def lead_over(
    found: Sweep, names: Iterable[str], reference: str, percents: Sequence[float]
) -> pd.DataFrame:
    """Return how scores compare with a reference score where both zero equally many heads.

        (found,) = ih.load_sweeps("runs/quiz")
        lead_over(found, ["MY"], "AHON (LN)", percents=[10, 20])

    Two scores swept at the same percent rarely zero exactly the same percent of heads. Both are
    therefore compared at the percent asked for or, if one of them did not reach it, at the largest
    percent that both reached. Outcomes in between are interpolated item by item, on the straight
    line between the two nearest points; the unablated model is one of them. Where a curve bends,
    that is slightly off, in the same direction for both scores; finer ``percents`` reduce it.

    Args:
        found: a sweep with the outcomes of every item.
        names: the scores to compare.
        reference: the score they are compared with.
        percents: the percents of heads to compare at.

    Returns:
        One row per score and percent, with the columns score; percent; compared_at, the percent
        zeroed by both; difference, score minus reference in nats per token or points of accuracy,
        with its paired 95% interval difference_low to difference_high, NaN if there are too few
        items for it (see `paired_change`); and verdict, "better" or "worse" if the interval
        excludes 0, else "not decided".

    Raises:
        UserError: the task has a single item.
    """
    rows = []
    if len(next(iter(found.points.values())).items) < 2:
        raise UserError("a single item says nothing about others; a comparison needs 2 or more")
    for name in names:
        for percent in percents:
            most = [_most_zeroed(found, one) for one in (name, reference)]
            at = min(float(percent), *most)
            lead = _lead(found, *(_height_at(found, one, at) for one in (name, reference)))
            difference, low, high = (found.metric.scale * end for end in lead)
            verdict = "not decided"
            if low > 0 or high < 0:
                verdict = "better" if found.metric.upward(difference) > 0 else "worse"
            rows.append((name, percent, at, difference, low, high, verdict))
    columns = ["score", "percent", "compared_at", "difference", "difference_low"]
    return pd.DataFrame(rows, columns=[*columns, "difference_high", "verdict"])


def challenges(
    sweeps: Mapping[str, Sweep], rankings: Mapping[str, pd.DataFrame]
) -> pd.DataFrame | None:
    """Return how scores other than the paper's compare with the best of the paper's, task by task.

    The best is chosen by its whole curve on the same items. It is therefore favoured by chance,
    which makes it harder to beat.

    Args:
        sweeps: task → its sweep.
        rankings: task → its ranking, from `Sweep.ranking`, for each task that can be ranked.

    Returns:
        The rows of `lead_over` for all tasks, after the columns task, metric, reference and tied,
        the scores of the paper's that tie with the reference ("A and B", or empty); None if no
        other score was swept, or none of the paper's.

    Raises:
        UserError: a task has a single item.
    """
    tables = []
    for task, ranking in rankings.items():
        found, names = sweeps[task], list(ranking["score"])
        papers = ranking[ranking["score"].isin(PAPER_SCORES)]
        others = [name for name in names if not (name in PAPER_SCORES or is_baseline(name))]
        if papers.empty or not others:
            continue
        best, *tied = papers.loc[papers["rank"] == papers["rank"].min(), "score"]
        percents = sorted({percent for _, percent in found.points if percent > 0})
        leads = lead_over(found, others, best, percents)
        about = {"task": task, "metric": found.metric, "reference": best}
        about |= {"tied": joined(tied) if tied else ""}
        tables.append(leads.assign(**about)[[*about, *leads.columns]])
    return pd.concat(tables, ignore_index=True) if tables else None


def standing(curves: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return the ranks that scores' curves would take among published curves of other models.

    A curve is summarized by its gain: normalized AUC minus the unablated accuracy, in points. A
    gain of 0 means that zeroing costs nothing. Published and own curves are cut at the same percent
    of heads. The ranks tell how a gain compares with published ones; they are not results on those
    models. Gains depend on the model and the questions as much as on the score:
    ``published_rank``, the true rank of a score that is among the published ones, shows how much.

    Args:
        curves: one model's accuracies, from `sweep` or `compare_scores`.
        published: from `read_curves`.

    Returns:
        One row per published model and score of ``curves``, with the columns published_model;
        score; gain, of the score here; best_published and best_gain, the best score there (or those
        that tie) and its gain; would_rank, 1 for the best; out_of, the number of ranks (published scores without
        Random, and this one); published_rank, NaN if the score is not published; and up_to, the
        percent zeroed at which curves are cut.

    Raises:
        UserError: either table has no accuracies, or a curve has fewer than two points.
    """
    own, theirs = as_curves(curves), as_curves(published)
    for name, table in (("these curves", own), ("the published ones", theirs)):
        if not table["accuracy"].notna().any():
            raise UserError(
                f"{name} have no accuracies, and only accuracies compare with published ones: give "
                'a task of questions, such as load_task("mmlu", data=…)'
            )
    rows = []
    for model, group in theirs.groupby("model", sort=False):
        named = group[~group["score"].map(is_baseline)]
        ends = [*_ends(own), *_ends(named)]
        up_to = min(ends)
        there, here = _gains(named, group, up_to), _gains(own, own, up_to)
        ranks = tied_ranks(there, higher_is_better=True, rounding=ACCURACY.rounding)
        best = joined(list(there.index[ranks == 1]))
        for score, gain in here.items():
            others = there.drop(score, errors="ignore")
            rank = 1 + int((others > gain + ACCURACY.rounding).sum())
            out_of = len(others) + 1
            known = float(ranks.get(score, np.nan))
            rows.append((model, score, gain, best, there.max(), rank, out_of, known, up_to))
    columns = ["published_model", "score", "gain", "best_published", "best_gain"]
    return pd.DataFrame(rows, columns=[*columns, "would_rank", "out_of", "published_rank", "up_to"])


def _curve(found: Sweep, name: str) -> list[Outcomes]:
    """A score's outcomes, sorted by the percent of heads really zeroed."""
    points = [outcomes for (score, _), outcomes in found.points.items() if score == name]
    return sorted(points, key=lambda outcomes: outcomes.percent_zeroed)


def _most_zeroed(found: Sweep, name: str) -> float:
    return _curve(found, name)[-1].percent_zeroed


class _Height(NamedTuple):
    """Every item's outcome at one percent zeroed, and the largest weight of a single point in it."""

    values: np.ndarray
    most: float


def _height_at(found: Sweep, name: str, percent: float) -> _Height:
    """Every item's outcome at a percent zeroed by the score, interpolated between points."""
    column = found.metric.item_column
    curve = _curve(found, name)
    values = np.array([one.items[column].to_numpy(float) for one in curve])
    zeroed = np.array([one.percent_zeroed for one in curve])
    # The weight of each point in the height at this percent; the same for every item.
    parts = np.array([np.interp(percent, zeroed, alone) for alone in np.eye(len(zeroed))])
    return _Height(parts @ values, float(parts.max()))


def _lead(found: Sweep, own: _Height, other: _Height) -> Interval:
    """The mean of own minus other, with its paired 95% interval."""
    weights = next(iter(found.points.values())).weights
    if not found.metric.is_binary:
        return paired_change(own.values, other.values, weights)
    # Interpolated answers are neither 0 nor 1, but differ by no more than answers can.
    most = max(own.most, other.most)
    change = (own.values - other.values)[:, None]
    ends = score_intervals(change, weights, confidence=CONFIDENCE, least=most)
    return Interval(*(float(end[0]) for end in ends))


def _ends(curves: pd.DataFrame) -> list[float]:
    return [float(curve["percent_zeroed"].max()) for _, curve in curves.groupby("score")]


def _gains(curves: pd.DataFrame, with_baseline: pd.DataFrame, up_to: float) -> pd.Series:
    """Each score's normalized AUC up to a percent zeroed, minus the unablated accuracy."""
    start = baseline_row(with_baseline)
    found = {}
    for score, curve in curves.groupby("score", sort=False):
        points = curve.sort_values("percent_zeroed")
        zeroed, accuracy = (points[name].to_numpy() for name in ("percent_zeroed", "accuracy"))
        inside = zeroed < up_to
        percents = [*zeroed[inside], up_to]
        heights = [*accuracy[inside], np.interp(up_to, zeroed, accuracy)]
        before = accuracy[0] if start is None else float(start["accuracy"])
        found[str(score)] = normalized_auc(percents, heights) - before
    return pd.Series(found)
