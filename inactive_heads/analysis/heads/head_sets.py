"""Sets of inactive heads: on how many inputs each head is inactive, and how sets agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.heads.arguments import check_labelled, check_scores, one_number
from inactive_heads.analysis.heads.thresholds import choose_thresholds, inactive_heads
from inactive_heads.errors import UserError


def inactive_at(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> xr.DataArray:
    """Return which heads are inactive on which inputs, at one percent of heads.

        inactive = inactive_at(scores, ih.choose_thresholds(scores), percent=10)

    A head is inactive on an input if its score is strictly on the inactive side of the threshold.
    NaN is neither inactive nor active; see `inactive_heads`.

    Args:
        scores: ``(score, sample, layer, head)``, with the coordinate ``inactive`` (the side).
        thresholds: ``(score, percent)``. Scores without a threshold are left out.
        percent: which of the thresholds' percents to use.

    Returns:
        Booleans, ``(score, sample, layer, head)``; with the coordinate ``defined``, if a score is
        NaN.

    Raises:
        UserError: ``scores`` are no scores, ``thresholds`` no thresholds of them, or there is no
            threshold for ``percent``.
    """
    check_scores(scores, ("score", "sample", "layer", "head"))
    check_labelled(thresholds, ("score", "percent"), "thresholds", "choose_thresholds")
    percent = one_number(percent, "percent")
    thresholds = thresholds if "percent" in thresholds.dims else thresholds.expand_dims("percent")
    percents = [float(known) for known in thresholds["percent"].to_numpy()]
    at = [i for i, known in enumerate(percents) if np.isclose(known, percent)]
    if not at:
        listed = ", ".join(f"{known:g}" for known in percents)
        raise UserError(f"there are no thresholds for {percent:g}% of heads, only for {listed}")
    mask = inactive_heads(scores, thresholds.isel(percent=at[0], drop=True))
    return mask.transpose("score", "sample", "layer", "head")


def inactive_counts(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> xr.DataArray:
    """Return on how many inputs each head is inactive, at one percent of heads.

    Args:
        scores: ``(score, sample, layer, head)``, with the coordinate ``inactive`` (the side).
        thresholds: ``(score, percent)``. Scores without a threshold are left out.
        percent: which of the thresholds' percents to use.

    Returns:
        Integers, ``(score, layer, head)``. Inputs with a NaN are not counted.

    Raises:
        UserError: there is no threshold for ``percent``.
    """
    return inactive_at(scores, thresholds, percent).sum("sample").astype(int)


def fixed_sets(scores: xr.DataArray, percents: Sequence[float]) -> xr.DataArray:
    """Return the fixed sets of inactive heads of all scores: those of `select_heads`.

    Args:
        scores: ``(score, sample, layer, head)``, with the coordinate ``inactive`` (the side).
        percents: the percents of heads in the sets.

    Returns:
        Booleans, ``(score, percent, layer, head)``.

    Raises:
        UserError: a score has no finite value, or a percent is not between 0 and 100.
    """
    means = scores.mean("sample", keep_attrs=True)
    sets = inactive_heads(means, choose_thresholds(means, percents))
    return sets.transpose("score", "percent", "layer", "head")


def score_agreement(inactive: xr.DataArray) -> xr.Dataset:
    """Return how far the head sets of different scores agree.

        agree = score_agreement(inactive_at(scores, cuts, 10))
        agree["precision"].sel(score="AWFT", other="AHON (LN)")

    Args:
        inactive: booleans with the dimension score. All other dimensions together form one set:
            that of the inactive (input, layer, head) triples.

    Returns:
        ``iou``, intersection over union, and ``precision``, the share of the set of ``score`` that
        is also in the set of ``other``: each ``(score, other)``, between 0 and 1. NaN where the
        denominator is an empty set.
    """
    names = inactive["score"].to_numpy()
    flat = inactive.transpose("score", ...).to_numpy().reshape(len(names), -1).astype(np.float64)
    both = flat @ flat.T  # exact: integers far below 2**53
    sizes = np.diag(both)
    union = sizes[:, None] + sizes[None, :] - both
    dims = ("score", "other")
    return xr.Dataset(
        {
            "iou": (dims, _ratio(both, union)),
            "precision": (dims, _ratio(both, np.broadcast_to(sizes[:, None], both.shape))),
        },
        coords={"score": names, "other": names},
    )


def fixed_agreement(
    scores: xr.DataArray, percent: float, *, thresholds: xr.DataArray | None = None
) -> pd.DataFrame:
    """Return how far one fixed set of heads agrees with the sets of single inputs.

    The fixed set is that of `select_heads`: chosen from scores averaged over the inputs.

    Args:
        scores: ``(score, sample, layer, head)``, with the coordinate ``inactive`` (the side).
        percent: the percent of heads in the sets.
        thresholds: ``(score, percent)``, by which the sets of single inputs are chosen; by default
            those of ``scores``.

    Returns:
        One row per score, with the columns score; iou, the mean over inputs of intersection over
        union; recall, the mean share of an input's inactive heads that are in the fixed set;
        precision, the mean share of the fixed set that is inactive on an input. Inputs for which a ratio is
        undefined are left out of its mean; NaN if none is left.

    Raises:
        UserError: a score has no finite value, or there is no threshold for ``percent``.
    """
    cuts = choose_thresholds(scores, [percent]) if thresholds is None else thresholds
    masks = inactive_at(scores, cuts, percent)
    sets = fixed_sets(scores, [percent]).isel(percent=0, drop=True)
    rows = []
    for name in masks["score"].to_numpy().tolist():
        mask = masks.sel(score=name).to_numpy()
        fixed = sets.sel(score=name).transpose("layer", "head").to_numpy()
        both, either = (mask & fixed).sum((1, 2)), (mask | fixed).sum((1, 2))
        sizes, fixed_sizes = mask.sum((1, 2)), np.full(len(mask), fixed.sum())
        parts = [(both, either), (both, sizes), (both, fixed_sizes)]
        rows.append((name, *(_mean_ratio(over, under) for over, under in parts)))
    return pd.DataFrame(rows, columns=["score", "iou", "recall", "precision"])


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    found = np.full(under.shape, np.nan)
    np.divide(over, under, out=found, where=under > 0)
    return found


def _mean_ratio(over: np.ndarray, under: np.ndarray) -> float:
    found = _ratio(over.astype(float), under.astype(float))
    found = found[np.isfinite(found)]
    return float(found.mean()) if len(found) else float("nan")


def head_ranks(values: np.ndarray, side: str) -> np.ndarray:
    """Return the rank of every head: 1 is furthest on the inactive side, NaN stays NaN.

    Args:
        values: one number per head, of any shape.
        side: on which side of a threshold heads are inactive: "below" or "above".

    Returns:
        Ranks in the shape of ``values``. Equal values share the lowest of their ranks.
    """
    keyed = pd.Series(np.asarray(values, dtype=float).ravel())
    return keyed.rank(ascending=side == "below", method="min").to_numpy().reshape(values.shape)
