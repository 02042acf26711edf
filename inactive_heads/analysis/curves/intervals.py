"""Confidence intervals of means over items, of right/wrong answers and of measured numbers.

Values are ``(item, column)``: all columns belong to the same items, and a resample draws the
items once for all of them. Weights are one per item.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

CHUNK = 2**22
"""Draws held at once: 32 MiB of counts, however many items there are."""
ROUNDING = 1e-9
"""Below this share of its usual size, what a resample leaves of a spread is rounding."""


class Intervals(NamedTuple):
    """Estimates and the two ends of their intervals, one of each per column."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def share_intervals(values: np.ndarray, weights: np.ndarray, *, confidence: float) -> Intervals:
    """Weighted means of values between 0 and 1, each with Wilson's score interval.

    Of 0 and 1 alone it is Wilson's interval of a proportion (1927). Values between them vary less
    than answers that are 0 or 1, as if there were more items: the items are counted as many as
    would give 0s and 1s the same standard error.
    """
    share = weights / weights.sum()
    mean = share @ values
    n = np.full(values.shape[1], 1 / np.square(share).sum())
    as_answers, variance = mean * (1 - mean), share @ (values - mean) ** 2
    np.divide(n * as_answers, variance, out=n, where=variance > ROUNDING)
    z = stats.norm.ppf((1 + confidence) / 2)
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(as_answers / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Intervals(mean, centre - reach, centre + reach)


def score_intervals(
    differences: np.ndarray, weights: np.ndarray, *, confidence: float, least: float = 1.0
) -> Intervals:
    """Weighted means of differences between -1 and 1 of paired answers, with Tango's intervals.

    Tango's score interval of two paired proportions (Statistics in Medicine 17:891, 1998) needs
    how many items one side won and how many it lost. It has a width where no item differs: 0 in
    n items leaves 3.84 / (n + 3.84) on both sides. Unequal weights count as fewer items (Kish's
    effective number).

    Other differences than -1, 0 and 1, as of areas under curves of answers, are counted as if all
    but the 0s had one size, with the same mean and mean square. That size is ``least`` or more:
    what one answer makes, as few items may have shown no more than rounding.
    """
    share = weights / weights.sum()
    n = 1 / np.square(share).sum()
    mean, square = share @ differences, share @ differences**2
    size = np.full_like(mean, least)
    np.divide(square, share @ np.abs(differences), out=size, where=square > 0)
    size = np.maximum(size, least)
    square = np.maximum(square, np.abs(mean) * size)  # nobody lost less than nothing
    won = n * (square / size**2 + mean / size) / 2
    lost = n * (square / size**2 - mean / size) / 2
    z = stats.norm.ppf((1 + confidence) / 2)
    estimate = mean / size
    one = np.ones_like(estimate)
    low = _where_score_is(z, won, lost, n, -one, estimate)
    high = _where_score_is(-z, won, lost, n, estimate, one)
    return Intervals(mean, size * low, size * high)


def _where_score_is(
    z: float, won: np.ndarray, lost: np.ndarray, n: float, below: np.ndarray, above: np.ndarray
) -> np.ndarray:
    """The difference between two where Tango's statistic, which falls with it, is z."""
    for _ in range(50):
        middle = (below + above) / 2
        # The share lost under the null hypothesis, by maximum likelihood.
        b = (2 * n - won + lost) * middle - won - lost
        root = np.sqrt(np.maximum(b**2 + 8 * n * lost * middle * (1 - middle), 0))
        lost_share = (root - b) / (4 * n)
        variance = n * (2 * lost_share + middle * (1 - middle))
        higher = won - lost - n * middle > z * np.sqrt(np.maximum(variance, 0))
        below, above = np.where(higher, middle, below), np.where(higher, above, middle)
    return (below + above) / 2


def studentized_intervals(
    values: np.ndarray, weights: np.ndarray, *, confidence: float, n_resamples: int, seed: int
) -> Intervals:
    """Weighted means of the columns, with bootstrap-t intervals that hold Student's.

    The bootstrap-t (Efron and Tibshirani 1993, chapter 12) resamples the mean in units of its own
    standard error, which moves both ends to where skewed values need them. The error is that of
    a ratio, as weights are resampled with their items. No end is nearer than that of Student's t:
    resamples of few or heavy-tailed values show too little of what may happen.

    An end is infinite where the data do not bound it: where so few items differ from the rest
    that too many resamples have none of them. A column of one value has an interval of no width.
    """
    n, k = values.shape
    share = weights[:, None] / weights.mean()
    mean = (share * values).mean(axis=0)
    error = np.sqrt((share**2 * (values - mean) ** 2).sum(axis=0)) / n
    # In units of its spread, so that one tolerance fits every column.
    scaled = (values - mean) / np.where(error > 0, error * np.sqrt(n), 1.0)
    columns = [share, share**2, share * scaled, share**2 * scaled, share**2 * scaled**2]
    sums = resampled_sums(np.hstack(columns), n_resamples=n_resamples, seed=seed)
    total, total_squares = sums[:, :1], sums[:, 1:2]
    once, crossed, squared = np.split(sums[:, 2:], [k, 2 * k], axis=1)
    means = once / total
    variances = (squared - 2 * means * crossed + means**2 * total_squares) / total**2
    means[np.abs(means) * np.sqrt(n) < ROUNDING] = 0.0
    variances[variances * n < ROUNDING] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        t = means / np.sqrt(variances)
    t[np.isnan(t)] = 0.0  # no spread, and at the mean itself
    tail = (1 - confidence) / 2
    # Nothing can be interpolated between two draws of which one may be infinite.
    low, high = np.quantile(t, [tail, 1 - tail], axis=0, method="inverted_cdf")
    student = stats.t.ppf(1 - tail, n - 1) * np.sqrt(n / (n - 1))
    with np.errstate(invalid="ignore"):
        reach = [np.maximum(far, student) * error for far in (high, -low)]
    return Intervals(mean, mean - reach[0], mean + reach[1])


def resampled_sums(columns: np.ndarray, *, n_resamples: int, seed: int) -> np.ndarray:
    """The sums of ``(item, column)`` over bootstrap resamples of the items, (resample, column).

    The items are put in order of their values first, so that their own order does not matter.
    """
    rng = np.random.default_rng(seed)
    n = len(columns)
    ordered = columns[np.lexsort(columns.T)]
    sums = np.empty((n_resamples, columns.shape[1]))
    step = max(1, CHUNK // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        cells = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n)
        sums[start : start + rows] = counts.astype(float) @ ordered
    return sums
