"""Thresholds from score distributions, and the sets of heads they select."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from inactive_heads.errors import UserError

PAPER_PERCENTS = (0, 5, 10, 15, 20, 25, 30)
"""The percents of heads that the paper zeroes."""

REPORT_PERCENTS = (0, 5, 10, 15, 20, 30)
"""The percents of heads that a report zeroes by default."""


def choose_thresholds(
    scores: xr.DataArray, percents: Sequence[float] = PAPER_PERCENTS
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
        UserError: no percent is given, one is out of range or given twice, or a score has no finite
            value.
    """
    checked = check_percents(percents)
    cuts = np.empty((scores.sizes["score"], len(checked)))
    for row, name in enumerate(scores["score"].values.tolist()):
        one = scores.isel(score=row)
        values = one.values[np.isfinite(one.values)].astype(np.float64)
        if not values.size:
            raise UserError(f"score {name!r} has no finite value to take a threshold from")
        p = np.asarray(checked) / 100
        if one["inactive"].item() == "above":
            p = 1 - p
        cuts[row] = np.quantile(values, p, method="interpolated_inverted_cdf")
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


def inactive_heads(scores: xr.DataArray, thresholds: xr.DataArray) -> xr.DataArray:
    """Return which heads are strictly on the inactive side of their score's threshold.

    Args:
        scores: with the dimension score and any others, such as ``(score, sample, layer, head)``.
        thresholds: ``(score, percent)``, or ``(score,)`` for one percent. Only scores in both
            arrays are kept.

    Returns:
        Booleans with the dimensions of both arrays, ``(score, sample, layer, head, percent)`` for
        those above. NaN counts as active.
    """
    scores, thresholds = xr.align(scores, thresholds, join="inner", exclude=("percent",))
    below = scores["inactive"] == "below"
    return xr.where(below, scores < thresholds, scores > thresholds)


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
        Booleans, ``(layer, head)``.

    Raises:
        UserError: ``percent`` is not between 0 and 100, or the score has no finite value.
    """
    mean = scores.sel(score=[score]).mean("sample", keep_attrs=True)
    return inactive_heads(mean, choose_thresholds(mean, [percent])).squeeze(
        ("score", "percent"), drop=True
    )


def head_set_iou(a: xr.DataArray, b: xr.DataArray) -> float:
    """Return intersection over union of two head sets; NaN if both are empty.

    Args:
        a: booleans of any shape.
        b: booleans of the same shape.

    Returns:
        A share of heads, 0 to 1, or NaN.
    """
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else float("nan")


def head_set_precision(a: xr.DataArray, of: xr.DataArray) -> float:
    """Return the share of heads in ``a`` that are also in ``of``, 0 to 1; NaN if ``a`` is empty.

    Args:
        a: booleans of any shape.
        of: booleans of the same shape.

    Returns:
        The share, 0 to 1, or NaN.
    """
    size = int(a.sum())
    return int((a & of).sum()) / size if size else float("nan")


def check_percents(percents: Iterable[float]) -> list[float]:
    """Return percents of heads in ascending order, validated.

    Args:
        percents: numbers from 0 to 100, each once.

    Returns:
        The percents, ascending.

    Raises:
        UserError: none is given, one is not between 0 and 100, or one is given twice.
    """
    checked = [float(percent) for percent in percents]
    if not checked:
        raise UserError("no share of heads was given; percents might be [0, 10, 20, 30]")
    for percent in checked:
        if not 0 <= percent <= 100:
            raise UserError(f"a share of heads is a percentage from 0 to 100, not {percent:g}")
    if len(set(checked)) < len(checked):
        raise UserError(f"a share of heads stands twice in {[f'{one:g}' for one in checked]}")
    return sorted(checked)
