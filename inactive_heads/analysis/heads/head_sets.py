"""Sets of inactive heads: on how many inputs each head is, and how scores' sets agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.heads.thresholds import choose_thresholds, inactive_heads
from inactive_heads.errors import UserError


def inactive_at(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> xr.DataArray:
    """Where each head of each input is inactive at one share: bool (score, sample, layer, head).

    A head is inactive on an input where its score is strictly on the inactive side of the
    threshold; NaN is active. Scores without a threshold are left out.

    Raises:
        UserError: there is no threshold for that share.
    """
    shares = [float(share) for share in thresholds["percent"].to_numpy()]
    at = [i for i, share in enumerate(shares) if np.isclose(share, percent)]
    if not at:
        listed = ", ".join(f"{share:g}" for share in shares)
        raise UserError(f"there are no thresholds for {percent:g}% of heads, only for {listed}")
    mask = inactive_heads(scores, thresholds.isel(percent=at[0], drop=True))
    return mask.transpose("score", "sample", "layer", "head")


def inactive_counts(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> xr.DataArray:
    """On how many inputs each head is inactive: int (score, layer, head), at one share.

    NaN is active, and scores without a threshold are left out, as in `inactive_at`.
    """
    return inactive_at(scores, thresholds, percent).sum("sample").astype(int)


def score_agreement(inactive: xr.DataArray) -> xr.Dataset:
    """How the scores' head sets agree: ``iou`` and ``precision``, each (score, other).

        agree = score_agreement(inactive_at(scores, cuts, 10))
        agree["precision"].sel(score="AWFT", other="AHON (LN)")

    ``inactive`` is boolean with the dim score; all its other dims together make one set, that of
    the (input, layer, head) triples. The precision of a score is the share of its set that is in
    the other's too. NaN where the set that divides is empty.
    """
    names = inactive["score"].to_numpy()
    flat = inactive.transpose("score", ...).to_numpy().reshape(len(names), -1).astype(np.float64)
    both = flat @ flat.T  # whole numbers far below 2**53: exact
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
    """How the one fixed set of heads agrees with the sets of single inputs, a row per score.

    The fixed set is that of `select_heads` (from scores averaged over the inputs), the sets of
    inputs those at the share's threshold. Columns: score; ``iou``, the mean over inputs of
    intersection over union; ``found``, the mean share of an input's inactive heads that the fixed
    set has; ``right``, the mean share of the fixed set that is inactive on an input. Inputs for
    which a ratio is undefined are left out of its mean; NaN where none is left.
    """
    cuts = choose_thresholds(scores, [percent]) if thresholds is None else thresholds
    masks = inactive_at(scores, cuts, percent)
    means = scores.mean("sample", keep_attrs=True)
    sets = inactive_heads(means, choose_thresholds(means, [percent]).isel(percent=0, drop=True))
    rows = []
    for name in masks["score"].to_numpy().tolist():
        mask = masks.sel(score=name).to_numpy()
        fixed = sets.sel(score=name).transpose("layer", "head").to_numpy()
        both, either = (mask & fixed).sum((1, 2)), (mask | fixed).sum((1, 2))
        sizes, fixed_sizes = mask.sum((1, 2)), np.full(len(mask), fixed.sum())
        parts = [(both, either), (both, sizes), (both, fixed_sizes)]
        rows.append((name, *(_mean_ratio(over, under) for over, under in parts)))
    return pd.DataFrame(rows, columns=["score", "iou", "found", "right"])


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    found = np.full(under.shape, np.nan)
    np.divide(over, under, out=found, where=under > 0)
    return found


def _mean_ratio(over: np.ndarray, under: np.ndarray) -> float:
    found = _ratio(over.astype(float), under.astype(float))
    found = found[np.isfinite(found)]
    return float(found.mean()) if len(found) else float("nan")


def head_ranks(values: np.ndarray, side: str) -> np.ndarray:
    """The place of every head, 1 being furthest on the inactive side; NaN stays NaN."""
    keyed = pd.Series(np.asarray(values, dtype=float).ravel())
    return keyed.rank(ascending=side == "below", method="min").to_numpy().reshape(values.shape)
