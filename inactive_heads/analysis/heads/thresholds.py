"""Thresholds from score distributions, and the sets of heads they select."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from inactive_heads.analysis.heads.arguments import (
    check_scores,
    check_thresholds,
    one_number,
    score_name,
)
from inactive_heads.checks import check_percents
from inactive_heads.errors import UserError
from inactive_heads.names import PAPER_PERCENTS


def choose_thresholds(
    scores: xr.DataArray, percents: float | Iterable[Any] = PAPER_PERCENTS
) -> xr.DataArray:
    """Return the threshold of every score for every percent of heads.

        cuts = ih.choose_thresholds(scores, percents=[5, 10, 20])
        cuts.sel(score="AHON (LN)", percent=10)

    A threshold is a quantile of the scores of all inputs, layers and heads: the p-quantile if heads
    are inactive below it, the (1-p)-quantile if above. Quantiles interpolate the empirical CDF
    linearly. Comparison is strict, so 0% selects no head. Values that are not finite are left out.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        percents: percents of heads, 0 to 100; by default the paper's: 0, 5, 10, 15, 20, 25, 30.

    Returns:
        Thresholds ``(score, percent)``, percents ascending, in each score's own unit.

    Raises:
        UserError: ``scores`` are no scores; no percent is given, one is out of range or given
            twice; or a score has no finite value.
    """
    check_scores(scores)
    checked = check_percents(percents)
    cuts = np.empty((scores.sizes["score"], len(checked)))
    for row, name in enumerate(scores["score"].values.tolist()):
        one = scores.isel(score=row)
        values = one.values[np.isfinite(one.values)].astype(np.float64)
        if not values.size:
            raise UserError(f"score {name!r} has no finite value to take a threshold from")
        cuts[row] = _quantiles(values, checked, one["inactive"].item())
    return xr.DataArray(
        cuts,
        dims=("score", "percent"),
        coords={
            "score": scores["score"].values,
            "percent": checked,
            "inactive": ("score", scores["inactive"].values),
        },
        name="threshold",
        attrs=scores.attrs,
    )


def _quantiles(values: np.ndarray, percents: Sequence[float], side: str) -> np.ndarray:
    """Quantiles of the interpolated inverted CDF, as `numpy.quantile` has them.

    Where a quantile is one of the values, it is exactly that value: a threshold that rounding
    places beside it would select another number of heads.
    """
    n = len(values)
    at = n * np.asarray(percents) / 100
    at = np.clip((at if side == "below" else n - at) - 1, 0, n - 1)
    at = np.where(np.abs(at - np.round(at)) < 1e-12 * n, np.round(at), at)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, n - 1)
    ordered = np.partition(values, np.unique([low, high]))
    found: np.ndarray = ordered[low] + (ordered[high] - ordered[low]) * (at - low)
    return found


def inactive_heads(scores: xr.DataArray, thresholds: xr.DataArray) -> xr.DataArray:
    """Return which heads are strictly on the inactive side of their score's threshold.

    Args:
        scores: ``(score, sample, layer, head)`` from `score_heads`, or a part of it.
        thresholds: ``(score, percent)``, or ``(score,)`` for one percent. Only scores in both
            arrays are kept.

    Returns:
        Booleans with the dimensions of both arrays, ``(score, sample, layer, head, percent)`` for
        those above, with the attributes of ``scores``. Where a score is NaN (a head that a layer
        lacks, or an undefined ratio), a head is not inactive; the coordinate ``defined`` then says
        where scores are numbers, and shares of heads are of those.

    Raises:
        UserError: ``scores`` are no scores, ``thresholds`` no thresholds of them, or one is NaN.
    """
    check_scores(scores, ())
    check_thresholds(thresholds)
    attrs, single = scores.attrs, "score" not in scores.dims
    scores, thresholds = (
        one if "score" in one.dims else one.expand_dims("score") for one in (scores, thresholds)
    )
    scores, thresholds = xr.align(scores, thresholds, join="inner", exclude=("percent",))
    if not scores.sizes["score"]:
        raise UserError("the scores and the thresholds have no score in common")
    below = scores["inactive"] == "below"
    mask = xr.where(below, scores < thresholds, scores > thresholds)
    mask.attrs = dict(attrs)
    defined = scores.notnull()
    if not defined.all():
        mask = mask.assign_coords(defined=(defined.dims, defined.data))
    return mask.squeeze("score") if single else mask


def share_inactive(inactive: xr.DataArray, dims: str | Sequence[str]) -> xr.DataArray:
    """Return the share of heads that is inactive, of the heads whose scores are numbers.

    Args:
        inactive: booleans from `inactive_heads`.
        dims: the dimensions to take shares over.

    Returns:
        Shares between 0 and 1 over the other dimensions; NaN where no score is a number.
    """
    if "defined" not in inactive.coords:
        return inactive.mean(dims)
    mask, defined = inactive.drop_vars("defined"), inactive["defined"].drop_vars("defined")
    there = defined.broadcast_like(mask).sum(dims)
    return mask.sum(dims) / there.where(there > 0)


def select_heads(scores: xr.DataArray, score: str, percent: float) -> xr.DataArray:
    """Return one set of inactive heads for all inputs.

        heads = ih.select_heads(scores, "AHON (LN)", percent=10)
        ih.ablate(model, samples, ih.Fixed(heads))

    Scores are averaged over the inputs first; the threshold is that of the averages.

    Args:
        scores: ``(score, sample, layer, head)``, from `score_heads`.
        score: the name of the score.
        percent: the percent of heads to select.

    Returns:
        Booleans, ``(layer, head)``, with the attributes of ``scores``.

    Raises:
        UserError: ``scores`` are no scores, ``score`` is not one of them, ``percent`` is not a
            number between 0 and 100, or the score has no finite value.
    """
    check_scores(scores, ("score", "sample", "layer", "head"))
    name = score_name(scores, score)
    percent = one_number(percent, "percent")
    mean = scores.sel(score=[name]).mean("sample", keep_attrs=True)
    return inactive_heads(mean, choose_thresholds(mean, [percent])).squeeze(
        ("score", "percent"), drop=True
    )
