"""Per-item outcomes behind the curves of a sweep, validated and ordered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.array_types import FloatVector
from inactive_heads.analysis.curves.metrics import Metric
from inactive_heads.analysis.curves.paired import item_weights
from inactive_heads.analysis.curves.table import CURVE_KEYS, baseline_row
from inactive_heads.errors import UserError


@dataclass(frozen=True, eq=False)
class Aligned:
    """Per-item outcomes behind the curves of one model on one task.

    Attributes:
        zeroed: the percent of heads really zeroed, scores × percents, percents ascending.
        values: the outcomes, 0 or 1 for answers, else losses: ``(score, percent, item)``, in the
            order of ``zeroed``.
        baseline: the outcomes of the unablated model: ``(score, item)``.
        weights: one per item, above 0: ``(item,)``.
    """

    zeroed: pd.DataFrame
    values: np.ndarray
    baseline: np.ndarray
    weights: np.ndarray


def align(
    curves: pd.DataFrame,
    outcomes: xr.DataArray | np.ndarray,
    weights: FloatVector | None,
    *,
    scores: pd.Series,
    metric: Metric,
) -> Aligned:
    """Return the outcomes behind the curves, in the order of ``scores``.

    Args:
        curves: the curves of one model, task and mode.
        outcomes: ``(score, percent, item)``, labelled by scores and percents; or an array with
            the scores in the order of ``curves`` and the percents ascending.
        weights: one per item; equal if None.
        scores: the names of all scores of the curves, in the order wanted.
        metric: the metric of the curves.

    Returns:
        The outcomes, the percents zeroed and the weights, validated.

    Raises:
        UserError: the curves are of several tasks, lack a point, have one twice, or have none
            without a zeroed head; or the outcomes are of other scores or percents, of a single
            item, not finite (for accuracy: not 0 or 1), or have another mean than the curve.
    """
    tasks = curves[CURVE_KEYS].drop_duplicates()
    if len(tasks) != 1:
        raise UserError(
            f"curves of {len(tasks)} tasks, {tasks.to_numpy().tolist()}: "
            "choose one model, task and mode"
        )
    zeroed, heights = (_grid(curves, scores, column) for column in ("percent_zeroed", metric))
    values = _in_order(outcomes, curves, zeroed)
    _check_values(values, zeroed, metric)
    per_item = item_weights(weights, values.shape[2])
    _check_means(values @ (per_item / per_item.sum()), heights, metric)
    return Aligned(zeroed, values, _unablated(values, zeroed, curves), per_item)


def _unablated(values: np.ndarray, zeroed: pd.DataFrame, curves: pd.DataFrame) -> np.ndarray:
    """What each score is compared with, ``(score, item)``: the baseline of `rank_scores`."""
    start = baseline_row(curves)
    if start is not None:
        row, column = list(zeroed.index).index(start["score"]), list(zeroed).index(start["percent"])
        return np.broadcast_to(values[row, column], values[:, column].shape)
    for score, least in zeroed.min(axis=1).items():
        if least > 0:
            raise UserError(f"the curve of {score!r} has no point where no head was zeroed")
    return values[np.arange(len(values)), zeroed.to_numpy().argmin(axis=1)]


def _grid(curves: pd.DataFrame, scores: pd.Series, column: str) -> pd.DataFrame:
    """A column of the curves as scores × percents: scores in the given order, percents rising."""
    if "percent" not in curves or curves["percent"].isna().any():
        raise UserError("the curves lack the percent that was asked for, which labels outcomes")
    twice = curves.loc[curves.duplicated(["score", "percent"]), ["score", "percent"]]
    for score, percent in twice.to_numpy():
        raise UserError(f"the curves have {score!r} at {percent:g}% twice")
    grid = curves.pivot_table(index="score", columns="percent", values=column).loc[list(scores)]
    for row, place in np.argwhere(grid.isna().to_numpy()):
        raise UserError(
            f"the curves have no {column} of {_point(grid, row, place)}; "
            "every score needs the same percents"
        )
    return grid


def _in_order(
    outcomes: xr.DataArray | np.ndarray, curves: pd.DataFrame, grid: pd.DataFrame
) -> np.ndarray:
    """The outcomes as floats, ``(score, percent, item)``, in the order of the grid."""
    labels = {"score": list(curves["score"].unique()), "percent": list(grid.columns)}
    dims = (*labels, "item")
    if not isinstance(outcomes, xr.DataArray):
        if outcomes.ndim != 3 or outcomes.shape[:2] != grid.shape:
            raise UserError(
                f"outcomes of shape {outcomes.shape} do not fit curves of {grid.shape[0]} scores "
                f"at {grid.shape[1]} percents; they must be (score, percent, item)"
            )
        outcomes = xr.DataArray(outcomes, dims=dims, coords=labels)
    if set(outcomes.dims) != set(dims):
        raise UserError(f"the outcomes have the dimensions {outcomes.dims}, not {dims}")
    for dim, wanted in labels.items():
        given = outcomes[dim].to_numpy().tolist()
        if sorted(given) != sorted(wanted):
            raise UserError(f"the outcomes have the {dim}s {given}, the curves {wanted}")
    ordered = outcomes.sel(score=list(grid.index), percent=labels["percent"]).transpose(*dims)
    return ordered.to_numpy().astype(float)


def _check_values(values: np.ndarray, grid: pd.DataFrame, metric: Metric) -> None:
    if values.shape[2] < 2:
        raise UserError(f"outcomes of {values.shape[2]} item: 2 or more are needed for an interval")
    odd, wanted = ~np.isfinite(values), "a finite number"
    if metric.is_binary:
        odd, wanted = ~np.isin(values, (0.0, 1.0)), "right (1) or wrong (0)"
    for row, column, item in np.argwhere(odd):
        raise UserError(
            f"the outcome of {_point(grid, row, column)}, item {item}, is "
            f"{values[row, column, item]:g}, not {wanted}"
        )


def _check_means(means: np.ndarray, heights: pd.DataFrame, metric: Metric) -> None:
    """Raise ``UserError`` if the mean of the outcomes at a point is not the curve's value there."""
    means = metric.scale * means
    # Curves may come from files, and losses from single precision.
    for row, column in np.argwhere(~np.isclose(means, heights, rtol=1e-4, atol=1e-6)):
        raise UserError(
            f"the outcomes of {_point(heights, row, column)} average {means[row, column]:.6g}, "
            f"the curve has {heights.iloc[row, column]:.6g}: are they of the same run, and the "
            "weights those of its items?"
        )


def _point(grid: pd.DataFrame, row: np.intp, column: np.intp) -> str:
    return f"{grid.index[row]!r} at {grid.columns[column]:g}%"
