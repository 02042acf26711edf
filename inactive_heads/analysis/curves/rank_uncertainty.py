"""How certain a ranking of scores is, from the per-item outcomes behind its curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from inactive_heads.analysis.curves.area import normalized_auc, percent_within
from inactive_heads.analysis.curves.array_types import FloatVector
from inactive_heads.analysis.curves.intervals import (
    resampled_sums,
    score_intervals,
    share_intervals,
    studentized_intervals,
)
from inactive_heads.analysis.curves.item_outcomes import align
from inactive_heads.analysis.curves.metrics import Metric, MetricName, get_metric
from inactive_heads.analysis.curves.paired import check_resampling
from inactive_heads.analysis.curves.ranking import ranked
from inactive_heads.analysis.curves.table import as_curves
from inactive_heads.analysis.curves.ties import ROUNDING

POWER = 0.8
"""The probability with which ``n_to_tell`` items tell two scores apart."""
MOST_TO_TELL = 10_000
"""Larger values of ``n_to_tell`` are shown as "more than 10,000": nobody runs so many, and the estimate is
rough where the lead is small."""
HUGE = 1e12
"""Replaces an infinite end of an interval, so that it crosses the line."""


def rank_uncertainty(
    curves: pd.DataFrame,
    outcomes: xr.DataArray | np.ndarray,
    weights: FloatVector | None = None,
    *,
    metric: Metric | MetricName = "accuracy",
    within: float | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the ranking of one model's scores on one task, with its uncertainty.

        rank_uncertainty(curves, outcomes, weights=n_tokens, metric="loss")

    `Sweep.ranking` calls it with the outcomes of a sweep.

    All scores were judged by the same items, so differences are paired. The percents zeroed are
    taken as given: a curve's normalized AUC is then the mean of one number per item, and so is the
    lead of one curve over another. Intervals of leads are those of `paired_change`; intervals of
    the AUC of answers are Wilson's. Leads are between neighbours in the ranking that these same
    items produced, and ``n_to_tell`` takes each lead for the true one.

    The percent of heads that can be zeroed is not a mean. Its interval extends from the point where
    the worse end of the paired interval of the change crosses the line, to the point where the
    better end does. In simulations with 30 to 1000 items, it contained the truth in 94 to 100% of
    samples; the percentile bootstrap of the crossing did in 27 to 80% with 30 questions, and in 73
    to 93% with 100.

    Args:
        curves: one model, task and mode, as `sweep` returns it: score, percent, percent_zeroed and
            the metric, every score at the same percents, and a row with no head zeroed.
        outcomes: ``(score, percent, item)``: right (1) or wrong (0), or the item's loss. Either
            labelled by the scores and percents of ``curves``, or an array with the scores in the
            order of ``curves`` and the percents ascending.
        weights: one per item, such as its number of tokens; equal by default.
        metric: the metric of the curves.
        within: the tolerance of ``percent_within_…``; by default 1 point of accuracy or 0.05 nats.
        confidence: the level of all intervals, ``better_than_next`` and ``n_to_tell``.
        n_resamples: the number of bootstrap resamples.
        seed: the seed of the bootstrap.

    Returns:
        One row per score, in the order of `rank_scores`, with its columns score, rank,
        normalized_auc (with auc_low and auc_high) and ``percent_within_…`` (with within_low and
        within_high), and

        - first: the share of bootstrap resamples, 0 to 1, in which the score has the best AUC;
          scores that tie share a resample equally, so the column sums to 1;
        - lead (with lead_low and lead_high): how much better its AUC is than the next row's;
        - better_than_next: whether lead_low is above 0;
        - n_to_tell: the number of items like these with which a lead of this size shows in 4 of 5
          samples: 2 + ((1.96 + 0.84) standard deviation / lead)²; infinite if there is no lead.
          Reports say "more than 10,000" of larger numbers.

        The last row has no next one: its leads and n_to_tell are NaN, better_than_next is False.
        With fewer than 20 answers or 10 losses, all intervals are NaN, and better_than_next is
        False.

    Raises:
        UserError: the metric is unknown, the curves are of several tasks or do not fit the
            outcomes, an outcome is not finite or not an answer, there is a single item, a weight is
            not above 0, or ``confidence`` or ``n_resamples`` is out of range.
    """
    metric = get_metric(metric)
    check_resampling(confidence, n_resamples)
    curves = as_curves(curves)
    table = ranked(curves, metric=metric, within=within)
    found = align(curves, outcomes, weights, scores=table["score"], metric=metric)

    # The AUC is linear in a curve's heights: a point's weight is the AUC with it alone at 1.
    points = np.array(
        [[normalized_auc(x, alone) for alone in np.eye(len(x))] for x in found.zeroed.to_numpy()]
    )
    areas = np.einsum("sp,spi->is", points, found.values)
    upward = metric.upward(areas)
    leads = upward[:, :-1] - upward[:, 1:]
    leads[np.abs(leads) < ROUNDING] = 0.0  # a tie is no lead
    changes = (found.values - found.baseline[:, None]).reshape(-1, len(found.weights)).T
    if metric.is_binary:
        area = share_intervals(areas, found.weights, confidence=confidence)
        lead = score_intervals(leads, found.weights, confidence=confidence, least=points.max())
        change = score_intervals(changes, found.weights, confidence=confidence)
    else:
        area, lead, change = (
            studentized_intervals(
                columns, found.weights, confidence=confidence, n_resamples=n_resamples, seed=seed
            )
            for columns in (areas, leads, changes)
        )

    scale, column = metric.scale, metric.within_column(within)
    tolerance = metric.tolerance if within is None else within
    ends = [scale * end.reshape(found.zeroed.shape) for end in (change.low, change.high)]
    crossings = [_crossings(found.zeroed, end, tolerance, metric) for end in ends]
    # A band that crosses the line several times may do so last outside the curve itself.
    reach = [table[column].to_numpy(), *crossings]
    last = [np.nan]  # has no next score
    return table[["score", "rank", "normalized_auc"]].assign(
        auc_low=scale * np.maximum(area.low, 0.0),  # neither a share nor a loss is negative
        auc_high=scale * area.high,
        **{column: table[column]},
        within_low=np.min(reach, axis=0),
        within_high=np.max(reach, axis=0),
        first=_first_shares(upward, found.weights, n_resamples, seed),
        lead=[*(scale * lead.value), *last],
        lead_low=[*(scale * lead.low), *last],
        lead_high=[*(scale * lead.high), *last],
        better_than_next=[*(lead.low > 0), False],
        n_to_tell=[*_items_to_tell(leads, found.weights, confidence), *last],
    )


def about_to_tell(n_to_tell: float) -> str:
    """Return a number of items to tell for a sentence: "about 350" or "more than 10,000".

    >>> about_to_tell(1234.0), about_to_tell(np.inf)
    ('about 1,234', 'more than 10,000')

    Args:
        n_to_tell: a value of the column ``n_to_tell``; not NaN.
    """
    many = n_to_tell > MOST_TO_TELL
    return f"more than {MOST_TO_TELL:,}" if many else f"about {n_to_tell:,.0f}"


def _first_shares(
    areas: np.ndarray, weights: np.ndarray, n_resamples: int, seed: int
) -> np.ndarray:
    """The share of resamples in which each column of ``(item, score)`` has the highest mean."""
    columns = np.column_stack([weights, weights[:, None] * areas])
    sums = resampled_sums(columns, n_resamples=n_resamples, seed=seed)
    means = sums[:, 1:] / sums[:, :1]
    best = means.max(axis=1, keepdims=True)
    tied = means >= best - ROUNDING * np.abs(best)
    return (tied / tied.sum(axis=1, keepdims=True)).mean(axis=0)


def _items_to_tell(leads: np.ndarray, weights: np.ndarray, confidence: float) -> np.ndarray:
    """The number of items with which each lead ``(item, pair)`` shows with `POWER`.

    By the normal approximation, plus Guenther's correction for an estimated standard error (The
    American Statistician 35:243, 1981).
    """
    relative = weights[:, None] / weights.mean()
    lead = (relative * leads).mean(axis=0)
    variance = (relative**2 * (leads - lead) ** 2).mean(axis=0)
    z, z_power = stats.norm.ppf([(1 + confidence) / 2, POWER])
    needed = np.full_like(lead, np.inf)
    np.divide((z + z_power) ** 2 * variance, lead**2, out=needed, where=lead > ROUNDING)
    return np.ceil(needed + z**2 / 2)


def _crossings(
    zeroed: pd.DataFrame, changes: np.ndarray, within: float, metric: Metric
) -> list[float]:
    """The percent at which one end of the interval of each score's change crosses the line."""
    if np.isnan(changes).all():  # too few items for an interval
        return [np.nan] * len(zeroed)
    # With no head zeroed the change is exactly 0. An infinite end crosses the line at once.
    ends = np.where(zeroed == 0, 0.0, np.clip(changes, -HUGE, HUGE))
    return [
        percent_within(x, end, within=within, baseline=0.0, direction=metric.direction)
        for x, end in zip(zeroed.to_numpy(), ends, strict=True)
    ]
