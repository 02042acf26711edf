"""Thresholds from score distributions, the sets of heads they choose, and how sets agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from inactive_heads.errors import UserError

PAPER_PERCENTS = (0, 5, 10, 15, 20, 25, 30)
"""The paper's grid of shares of heads, in percent."""

REPORT_PERCENTS = (0, 5, 10, 15, 20, 30)
"""The percentages of heads that a report zeroes unless it is told otherwise."""


def choose_thresholds(
    scores: xr.DataArray, percents: Sequence[float] = PAPER_PERCENTS
) -> xr.DataArray:
    """The threshold of every score for every share of heads, ``(score, percent)``.

        cuts = ih.choose_thresholds(scores, percents=[5, 10, 20])
        cuts.sel(score="AHON (LN)", percent=10)

    Over the scores of all inputs, layers and heads: the p-quantile where a head is inactive
    below, the (1-p)-quantile where above, of the empirical CDF with linear interpolation.
    Comparison is strict, so 0% takes no head. NaN scores are left out.

    Raises:
        UserError: a share outside 0 to 100, or a score without a finite value.
    """
    shares = check_percents(percents)
    cuts = np.empty((scores.sizes["score"], len(shares)))
    for row, name in enumerate(scores["score"].values.tolist()):
        one = scores.isel(score=row)
        values = one.values[np.isfinite(one.values)].astype(np.float64)
        if not values.size:
            raise UserError(f"score {name!r} has no finite value to take a threshold from")
        p = np.asarray(shares) / 100
        if one["inactive"].item() == "above":
            p = 1 - p
        cuts[row] = np.quantile(values, p, method="interpolated_inverted_cdf")
    return xr.DataArray(
        cuts,
        dims=("score", "percent"),
        coords={
            "score": scores["score"].values,
            "percent": shares,
            "inactive": ("score", scores["inactive"].values),
        },
        name="threshold",
        attrs=scores.attrs,
    )


def inactive_heads(scores: xr.DataArray, thresholds: xr.DataArray) -> xr.DataArray:
    """True where a head is on the inactive side of its score's threshold (strictly).

    Dimensions are those of both, matched by name: ``(score, sample, layer, head, percent)``
    for all that was scored and chosen; NaN is active.
    """
    scores, thresholds = xr.align(scores, thresholds, join="inner", exclude=("percent",))
    below = scores["inactive"] == "below"
    return xr.where(below, scores < thresholds, scores > thresholds)


def select_heads(scores: xr.DataArray, score: str, percent: float) -> xr.DataArray:
    """The one set of heads for all inputs: true at the inactive ones, ``(layer, head)``.

    Chosen from scores averaged over the samples, at the threshold that the averages give.
    """
    mean = scores.sel(score=[score]).mean("sample", keep_attrs=True)
    return inactive_heads(mean, choose_thresholds(mean, [percent])).squeeze(
        ("score", "percent"), drop=True
    )


def head_set_iou(a: xr.DataArray, b: xr.DataArray) -> float:
    """Intersection over union of two head sets (boolean, of one shape); NaN if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else float("nan")


def head_set_precision(a: xr.DataArray, of: xr.DataArray) -> float:
    """The share of ``a``'s heads that are in ``of`` too; NaN if ``a`` is empty."""
    size = int(a.sum())
    return int((a & of).sum()) / size if size else float("nan")


def check_percents(percents: Iterable[float]) -> list[float]:
    """The shares in ascending order.

    Raises:
        UserError: none, one outside 0 to 100, or one twice.
    """
    shares = [float(percent) for percent in percents]
    if not shares:
        raise UserError("no share of heads was given; percents might be [0, 10, 20, 30]")
    for share in shares:
        if not 0 <= share <= 100:
            raise UserError(f"a share of heads is a percentage from 0 to 100, not {share:g}")
    if len(set(shares)) < len(shares):
        raise UserError(f"a share of heads stands twice in {[f'{share:g}' for share in shares]}")
    return sorted(shares)
