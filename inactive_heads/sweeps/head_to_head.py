"""One score against another at equal shares of heads, and among the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.area import normalized_auc
from inactive_heads.analysis.curves.intervals import score_intervals
from inactive_heads.analysis.curves.paired import Interval, paired_change
from inactive_heads.analysis.curves.table import RANDOM, as_curves, baseline_row
from inactive_heads.errors import UserError
from inactive_heads.evaluation.outcomes import CONFIDENCE, Outcomes
from inactive_heads.scores.paper import PAPER_SCORES
from inactive_heads.sweeps.results import Sweep


def lead_over(
    found: Sweep, names: Iterable[str], reference: str, percents: Sequence[float]
) -> pd.DataFrame:
    """How scores do against a reference score where both zero equally many heads.

    Two scores that were asked for the same share rarely zero the same one. Both are therefore
    taken at the share asked for, or where one of them did not get so far, at the largest that both
    did: item by item on the straight line between the two nearest points (with no head zeroed, and
    with the shares swept). A curve that bends is met a little beside its true height there, on
    both sides alike; finer ``percents`` make that smaller.

    Args:
        found: a sweep with the outcomes of every item.
        names: the scores to compare.
        reference: the score they are compared with.
        percents: the shares at which.

    Returns:
        One row per score and share: score, percent, compared_at (the % zeroed of both), difference
        (the score less the reference, in nats per token or points of accuracy) with
        difference_low and difference_high, its paired 95% interval, and verdict: "better" or
        "worse" where the interval is on one side of 0, else "not decided".

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
    """How every score that is not the paper's does against the paper's best, task by task.

    The best is that of the same items, by its whole curve: it was chosen for its luck on them too,
    which makes it the harder to beat.

    Args:
        sweeps: of each task.
        rankings: from `Sweep.ranking`, of each task that can be ranked.

    Returns:
        `lead_over` of every task, with the columns task, metric and reference before; None where
        no other score was swept, or none of the paper's.
    """
    tables = []
    for task, ranking in rankings.items():
        found, names = sweeps[task], list(ranking["score"])
        best = next((name for name in names if name in PAPER_SCORES), None)
        others = [name for name in names if name not in (*PAPER_SCORES, RANDOM)]
        if best is None or not others:
            continue
        percents = sorted({percent for _, percent in found.points if percent > 0})
        leads = lead_over(found, others, best, percents)
        about = {"task": task, "metric": found.metric, "reference": best}
        tables.append(leads.assign(**about)[[*about, *leads.columns]])
    return pd.concat(tables, ignore_index=True) if tables else None


def standing(curves: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The ranks that scores' curves would take among published ones of other models.

    A curve is summed up as its gain: normalized AUC less the accuracy with every head, in points
    (0 is a score whose heads can all be zeroed for nothing). Published curves and one's own are cut
    at the same share of heads. That tells how large a loss is beside those that were published; it
    is no result on those models. Gains depend on the model and the questions as much as on the
    score: ``published_rank``, the true rank of a score that is among the published, says how much.

    Args:
        curves: one model's accuracies from `sweep` or `compare_scores`.
        published: from `read_curves`.

    Returns:
        One row per published model and score of ``curves``: published_model, score, gain (of the
        score here), best_published, best_gain (there), would_rank (1 is best), out_of (with the
        published score functions, Random aside), published_rank (NaN if it is not published) and
        up_to (the % zeroed at which curves are cut).

    Raises:
        UserError: either has no accuracies, or a curve has fewer than two points.
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
        named = group[group["score"] != RANDOM]
        ends = [*_ends(own), *_ends(named)]
        up_to = min(ends)
        there, here = _gains(named, group, up_to), _gains(own, own, up_to)
        ranks = there.rank(ascending=False, method="min")
        for score, gain in here.items():
            rank = 1 + int((there.drop(score, errors="ignore") > gain).sum())
            out_of = len(there.drop(score, errors="ignore")) + 1
            best = str(there.idxmax())
            known = float(ranks.get(score, np.nan))
            rows.append((model, score, gain, best, there[best], rank, out_of, known, up_to))
    columns = ["published_model", "score", "gain", "best_published", "best_gain"]
    return pd.DataFrame(rows, columns=[*columns, "would_rank", "out_of", "published_rank", "up_to"])


def _curve(found: Sweep, name: str) -> list[Outcomes]:
    """The outcomes of a score, by the share really zeroed, rising."""
    points = [outcomes for (score, _), outcomes in found.points.items() if score == name]
    return sorted(points, key=lambda outcomes: outcomes.percent_zeroed)


def _most_zeroed(found: Sweep, name: str) -> float:
    return _curve(found, name)[-1].percent_zeroed


class _Height(NamedTuple):
    """What every item gives at one share, and the most that a single answer counts in it."""

    values: np.ndarray
    most: float


def _height_at(found: Sweep, name: str, percent: float) -> _Height:
    """What every item gives where the score zeroes that % of heads, linear between points."""
    column = found.metric.item_column
    curve = _curve(found, name)
    values = np.array([one.items[column].to_numpy(float) for one in curve])
    zeroed = np.array([one.percent_zeroed for one in curve])
    # Each point's part in the height at this share: the same for every item.
    parts = np.array([np.interp(percent, zeroed, alone) for alone in np.eye(len(zeroed))])
    return _Height(parts @ values, float(parts.max()))


def _lead(found: Sweep, own: _Height, other: _Height) -> Interval:
    """The mean of own less other, with its paired 95% interval."""
    weights = next(iter(found.points.values())).weights
    if not found.metric.is_binary:
        return paired_change(own.values, other.values, weights)
    # Answers between two points are neither 0 nor 1, but differ by no more than answers do.
    most = max(own.most, other.most)
    change = (own.values - other.values)[:, None]
    ends = score_intervals(change, weights, confidence=CONFIDENCE, least=most)
    return Interval(*(float(end[0]) for end in ends))


def _ends(curves: pd.DataFrame) -> list[float]:
    return [float(curve["percent_zeroed"].max()) for _, curve in curves.groupby("score")]


def _gains(curves: pd.DataFrame, with_baseline: pd.DataFrame, up_to: float) -> pd.Series:
    """Each score's normalized AUC up to a share, less the accuracy with every head."""
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
