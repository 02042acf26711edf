"""Two numbers that summarize a curve: its mean height, and how many heads can be zeroed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.array_types import FloatVector
from inactive_heads.analysis.curves.metrics import ACCURACY, Direction
from inactive_heads.analysis.curves.ties import ROUNDING
from inactive_heads.errors import UserError


def normalized_auc(percent_zeroed: FloatVector, values: FloatVector) -> float:
    """Return the mean height of a curve: its trapezoid area divided by the percent range it spans.

    >>> normalized_auc([0, 10, 30], [60, 50, 20])
    41.666666666666664

    Args:
        percent_zeroed: percent of heads zeroed at each point, in any order. Points at the same
            percent are averaged first.
        values: the curve's value at each point, such as accuracy in % or loss in nats per token.

    Returns:
        The mean height, in the unit of ``values``.

    Raises:
        UserError: the two differ in shape, a number is not finite, or there are fewer than two
            different percents.
    """
    percents, heights = _points(percent_zeroed, values)
    area = np.sum(np.diff(percents) * (heights[1:] + heights[:-1]) / 2)
    return float(area / (percents[-1] - percents[0]))


def percent_within(
    percent_zeroed: FloatVector,
    values: FloatVector,
    *,
    within: float = ACCURACY.tolerance,
    baseline: float | None = None,
    direction: Direction = "higher",
) -> float:
    """Return the percent of heads that can be zeroed before a curve is worse than its baseline.

    >>> percent_within([0, 10, 20], [60, 60, 50], within=1)
    11.0

    The result is the percent at the *last* crossing of the line ``baseline - within``, upward
    crossings included, with straight lines between points. A curve that is never worse than the
    line counts as its largest percent, one that always is as its smallest. A point on the line is
    not worse.

    Args:
        percent_zeroed: percent of heads zeroed at each point, in any order.
        values: the curve's value at each point.
        within: how much worse than the baseline still counts as unharmed, in the unit of
            ``values``; by default 1, a point of accuracy.
        baseline: the value with no head zeroed; by default, the value at the smallest percent.
        direction: which values are better. With "lower", the line is ``baseline + within``.

    Returns:
        The percent of heads, within the range of ``percent_zeroed``.

    Raises:
        UserError: ``within`` is negative, ``baseline`` is not finite, the points do not pair or are
            not finite, or there are fewer than two different percents.
    """
    percents, heights = _points(percent_zeroed, values)
    if not within >= 0:
        raise UserError(f"within={within} must be 0 or more")
    if baseline is None:
        baseline = float(heights[0])
    elif not np.isfinite(baseline):
        raise UserError(f"baseline={baseline} is not a number a curve can be compared with")
    sign = 1.0 if direction == "higher" else -1.0
    # Distance above the line; rounding must not push a point that is on the line below it.
    margin = sign * (heights - baseline) + within
    margin[np.abs(margin) < ROUNDING] = 0.0
    good = margin >= 0
    crossings = np.flatnonzero(good[1:] != good[:-1])
    if not len(crossings):
        return float(percents[-1] if good[0] else percents[0])
    left, right = crossings[-1], crossings[-1] + 1
    fraction = margin[left] / (margin[left] - margin[right])
    return float(percents[left] + fraction * (percents[right] - percents[left]))


def _points(percents: FloatVector, values: FloatVector) -> tuple[np.ndarray, np.ndarray]:
    """The points of a curve, sorted by percent; those at the same percent are averaged."""
    xs = np.asarray(percents, dtype=float)
    ys = np.asarray(values, dtype=float)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise UserError(f"percentages of shape {xs.shape} do not pair with values of {ys.shape}")
    missing = np.flatnonzero(~(np.isfinite(xs) & np.isfinite(ys)))
    if len(missing):
        row = missing[0]
        label = values.index[row] if isinstance(values, pd.Series) else row
        raise UserError(f"row {label} of a curve is not finite: {ys[row]} at {xs[row]}% zeroed")
    unique, inverse = np.unique(xs, return_inverse=True)
    if len(unique) < 2:
        raise UserError(f"a curve needs two different % zeroed, not {unique.tolist()}")
    return unique, np.bincount(inverse, weights=ys) / np.bincount(inverse)
