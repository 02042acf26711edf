"""What is read off results: area under a curve, how much can be zeroed, ranks, agreement.

A *curve* is one model's accuracy (in %) or loss (nats per token) on one task against the % of
heads zeroed by one score. Tables of curves have one row per point, with the columns ``model``,
``task``, ``mode``, ``score``, ``percent`` (asked for), ``percent_zeroed`` (really zeroed) and
``accuracy`` or ``loss``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from inactive_heads.errors import UserError
from inactive_heads.thresholds import inactive_heads

Metric = Literal["accuracy", "loss"]
Direction = Literal["higher", "lower"]
Numbers: TypeAlias = Sequence[float] | np.ndarray | pd.Series

RANDOM = "Random"
CURVE_KEYS = ["model", "task", "mode"]
TOLERANCE: dict[Metric, float] = {"accuracy": 1.0, "loss": 0.05}
_BETTER: dict[Metric, Direction] = {"accuracy": "higher", "loss": "lower"}
_UNIT: dict[Metric, str] = {"accuracy": "pt", "loss": "_nats"}
_OPTIONAL = ["percent", "threshold", "accuracy", "ci_low", "ci_high", "n"]
_OPTIONAL += ["loss", "loss_low", "loss_high"]
SUMMARY_COLUMNS = [
    *("model", "task", "mode", "score", "percent", "threshold", "percent_zeroed"),
    *("accuracy", "ci_low", "ci_high", "accuracy_change"),
    *("loss", "loss_low", "loss_high", "loss_change", "n"),
    *("change_low", "change_high"),
    *("normalized_auc", "percent_within_1pt", "percent_within_0.05_nats", "rank"),
]


def within_column(metric: Metric, within: float | None = None) -> str:
    """The name of the column that holds how much can be zeroed: ``percent_within_1pt``."""
    return f"percent_within_{TOLERANCE[metric] if within is None else within:g}{_UNIT[metric]}"


def read_curves(path: str | Path) -> pd.DataFrame:
    """The curves of a CSV file, with the columns that every other function here expects.

    Takes what a sweep writes and also published tables, which name the task in the column of
    accuracies (``mmlu_accuracy``) and leave out what they do not vary: their mode is the paper's,
    "per-input". What is not in the file stays NaN.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of curves at {str(path)!r}")
    curves = pd.read_csv(path)
    for column in list(curves.columns):
        if found := re.fullmatch(r"(\w+)_accuracy", str(column)):
            curves = curves.rename(columns={column: "accuracy"})
            curves = curves.assign(task=found[1], mode="per-input")
            break
    for column in _OPTIONAL:
        if column not in curves:
            curves[column] = np.nan
    _require(curves, [*CURVE_KEYS, "score", "percent_zeroed"], str(path))
    first = [*CURVE_KEYS, "score", "percent_zeroed", *_OPTIONAL]
    return curves[[*first, *(c for c in curves.columns if c not in first)]]


def normalized_auc(percent_zeroed: Numbers, values: Numbers) -> float:
    """The mean height of a curve: its trapezoid area divided by the % it spans.

    >>> normalized_auc([0, 10, 30], [60, 50, 20])
    41.666666666666664

    In the unit of ``values``. Points need no order; those at the same % are averaged first.
    Fewer than two different percentages, and NaN, raise ``UserError``.
    """
    percents, heights = _points(percent_zeroed, values)
    area = np.sum(np.diff(percents) * (heights[1:] + heights[:-1]) / 2)
    return float(area / (percents[-1] - percents[0]))


def percent_within(
    percent_zeroed: Numbers,
    values: Numbers,
    *,
    within: float = TOLERANCE["accuracy"],
    baseline: float | None = None,
    direction: Direction = "higher",
) -> float:
    """The % of heads that can be zeroed before a curve is worse than ``baseline`` by ``within``.

    >>> percent_within([0, 10, 20], [60, 60, 50], within=1)
    11.0

    It is the % at the *last* crossing of the line ``baseline - within`` (``baseline + within``
    where ``direction`` is "lower": lower is better), linear between points, upward crossings
    included. A curve that is never worse than the line counts its largest %, one that always is
    its smallest. A point on the line is not worse.

    ``baseline`` is the value with no head zeroed; by default, the value at the smallest %.
    Fewer than two different percentages, and NaN, raise ``UserError``.
    """
    percents, heights = _points(percent_zeroed, values)
    if not within >= 0:
        raise UserError(f"within={within} must be 0 or more")
    if baseline is None:
        baseline = float(heights[0])
    elif not np.isfinite(baseline):
        raise UserError(f"baseline={baseline} is not a number a curve can be compared with")
    sign = 1.0 if direction == "higher" else -1.0
    # How far each point is above the line; rounding must not push a point on the line below it.
    margin = sign * (heights - baseline) + within
    margin[np.abs(margin) < 1e-9] = 0.0
    good = margin >= 0
    crossings = np.flatnonzero(good[1:] != good[:-1])
    if not len(crossings):
        return float(percents[-1] if good[0] else percents[0])
    left, right = crossings[-1], crossings[-1] + 1
    share = margin[left] / (margin[left] - margin[right])
    return float(percents[left] + share * (percents[right] - percents[left]))


def rank_scores(
    curves: pd.DataFrame, *, metric: Metric = "accuracy", within: float | None = None
) -> pd.DataFrame:
    """The scores of every model, task and mode, the best first.

    Columns: model, task, mode, score, normalized_auc (% accuracy, or nats per token), rank (1 is
    the best normalized AUC; Random is ranked too) and how much can be zeroed within a tolerance:
    ``percent_within_1pt`` for accuracy, ``percent_within_0.05_nats`` for loss. Another ``within``
    is named in the column. The baseline is Random's point at 0% (no head zeroed), or where there
    is none, each curve's own first point.

    Groups measured by the other metric are left out; ``UserError`` when none is left, for a NaN
    among a group's values, and for a curve of fewer than two points.
    """
    column, rows = within_column(metric, within), []
    tolerance = TOLERANCE[metric] if within is None else within
    for keys, group in _groups(curves, metric):
        start = baseline_row(group)
        for score, curve in group.groupby("score", sort=False):
            named = f"the curve of {score!r} ({', '.join(str(key) for key in keys)})"
            baseline = None if start is None else float(start[metric])
            try:
                area = normalized_auc(curve["percent_zeroed"], curve[metric])
                reach = percent_within(
                    curve["percent_zeroed"],
                    curve[metric],
                    within=tolerance,
                    baseline=baseline,
                    direction=_BETTER[metric],
                )
            except UserError as error:
                raise UserError(f"{named}: {error}") from None
            rows.append((*keys, score, area, reach))
    table = pd.DataFrame(rows, columns=[*CURVE_KEYS, "score", "normalized_auc", column])
    areas = table.groupby(CURVE_KEYS, sort=False, dropna=False)["normalized_auc"]
    best_first = _BETTER[metric] == "higher"
    table["rank"] = areas.rank(method="min", ascending=not best_first).astype(int)
    return table.sort_values([*CURVE_KEYS, "rank"], kind="stable", ignore_index=True)


def baseline_row(group: pd.DataFrame) -> pd.Series | None:
    """The row of one model, task and mode where no head was zeroed; None where there is none."""
    none_zeroed = group[group["percent_zeroed"] == 0]
    if none_zeroed.empty:
        return None
    # Every score has such a row. Random's is the one that was surely never touched: at a share of
    # 0% a threshold taken from one data set may still catch a head on another.
    random = none_zeroed[none_zeroed["score"] == RANDOM]
    return random.iloc[0] if len(random) else None


def summarize(
    curves: pd.DataFrame | None, thresholds: xr.DataArray | None, *, percent: float
) -> pd.DataFrame:
    """One row per model, task, mode and score, at one share of heads: ``summary.csv``.

    Columns: ``SUMMARY_COLUMNS``. Accuracy in % and loss in nats per token, each with its interval
    and its change from the baseline (negative is fewer right answers, positive is more loss), whose
    paired interval is change_low to change_high;
    normalized_auc, percent_within_... and rank are of the whole curve. NaN where a task is not
    measured that way. Without curves, the thresholds alone.

    A score without a point at ``percent`` raises ``UserError`` that lists the shares it has.
    """
    if curves is None or curves.empty:
        return _summary_of_thresholds(thresholds, percent)
    rows: list[pd.DataFrame] = []
    for metric in ("accuracy", "loss"):
        if metric not in curves or not curves[metric].notna().any():
            continue
        ranks = rank_scores(curves, metric=metric)
        for keys, group in _groups(curves, metric):
            start = baseline_row(group)
            chosen = _rows_at(group, percent, keys)
            own = group.sort_values("percent_zeroed", kind="stable").groupby("score")[metric]
            before = chosen["score"].map(own.first()) if start is None else start[metric]
            chosen[f"{metric}_change"] = chosen[metric] - before
            rows.append(chosen.merge(ranks, on=[*CURVE_KEYS, "score"]))
    if not rows:
        raise UserError("no curve has a value: accuracy and loss are NaN throughout")
    table = pd.concat(rows, ignore_index=True).reindex(columns=SUMMARY_COLUMNS)
    table["threshold"] = [
        _threshold(thresholds, score, percent) if np.isnan(value) else value
        for score, value in zip(table["score"], table["threshold"].astype(float), strict=True)
    ]
    return table.sort_values([*CURVE_KEYS, "rank"], kind="stable", ignore_index=True)


def inactive_counts(scores: xr.DataArray, thresholds: xr.DataArray, percent: float) -> xr.DataArray:
    """On how many inputs each head is inactive: int (score, layer, head), at one share.

    A head is inactive on an input where its score is strictly on the inactive side of the
    threshold; NaN is active. Scores without a threshold are left out.
    """
    shares = [float(share) for share in thresholds["percent"].to_numpy()]
    at = [i for i, share in enumerate(shares) if np.isclose(share, percent)]
    if not at:
        listed = ", ".join(f"{share:g}" for share in shares)
        raise UserError(f"there are no thresholds for {percent:g}% of heads, only for {listed}")
    inactive = inactive_heads(scores, thresholds.isel(percent=at[0], drop=True))
    return inactive.sum("sample").transpose("score", "layer", "head").astype(int)


def score_distances(first: xr.DataArray, second: xr.DataArray) -> pd.Series:
    """How differently two models (or data sets) score their heads, per score.

    The Wasserstein-1 distance of the two distributions over inputs, layers and heads, in the
    score's own unit, for the scores that both have. NaN scores are left out.
    """
    shared = [name for name in first["score"].to_numpy() if name in set(second["score"].to_numpy())]
    distances = [
        stats.wasserstein_distance(*(_finite(side.sel(score=name)) for side in (first, second)))
        for name in shared
    ]
    return pd.Series(distances, index=pd.Index(shared, name="score"), name="wasserstein")


def rank_agreement(
    ranking: pd.DataFrame, first: str, second: str, *, top: int = 5
) -> dict[str, float]:
    """How alike two models rank the scores: ``spearman`` of their AUCs, ``top_iou`` of their best.

    ``ranking`` comes from ``rank_scores``, for one task and mode; Random is left out. The
    intersection over union is that of the two sets of ``top`` scores.
    """
    chosen = ranking[ranking["score"] != RANDOM]
    if chosen.duplicated(["model", "score"]).any():
        raise UserError("the ranking holds several tasks or modes: choose one of each first")
    table = chosen.pivot_table(index="score", columns="model", values="rank").dropna(axis=1)
    for model in (first, second):
        if model not in table:
            raise UserError(f"no ranking of the model {model!r}; there is {list(table.columns)}")
    best = [set(table[model].nsmallest(top).index) for model in (first, second)]
    correlation = stats.spearmanr(table[first], table[second]).statistic
    return {
        "spearman": float(correlation),
        "top_iou": len(best[0] & best[1]) / len(best[0] | best[1]),
    }


def _points(percents: Numbers, values: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """The points of a curve sorted by %, those at the same % averaged."""
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


def _groups(
    curves: pd.DataFrame, metric: Metric
) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """The curves of each model, task and mode that is measured by ``metric``."""
    _require(curves, [*CURVE_KEYS, "score", "percent_zeroed", metric], "the table of curves")
    found = False
    for keys, group in curves.groupby(CURVE_KEYS, sort=False, dropna=False):
        if group[metric].notna().any():
            found = True
            yield keys, group
    if not found:
        raise UserError(f"no curve has a value of {metric!r}")


def _require(table: pd.DataFrame, columns: list[str], where: str) -> None:
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{where} has no column {missing}; it has {list(table.columns)}")


def _rows_at(group: pd.DataFrame, percent: float, keys: tuple[Hashable, ...]) -> pd.DataFrame:
    """The rows of a group at one share asked for; every score must have one."""
    chosen = group[np.isclose(group["percent"].astype(float), percent)].copy()
    for score, curve in group.groupby("score", sort=False):
        if score not in set(chosen["score"]):
            shares = ", ".join(f"{share:g}" for share in sorted(set(curve["percent"])))
            named = ", ".join(str(key) for key in keys)
            raise UserError(f"{score!r} ({named}) was not run at {percent:g}%, only at {shares}%")
    return chosen


def _summary_of_thresholds(thresholds: xr.DataArray | None, percent: float) -> pd.DataFrame:
    names = [] if thresholds is None else [str(name) for name in thresholds["score"].to_numpy()]
    rows: list[dict[str, Any]] = [
        {"score": name, "percent": percent, "threshold": _threshold(thresholds, name, percent)}
        for name in names
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _threshold(thresholds: xr.DataArray | None, score: str, percent: float) -> float:
    """A score's threshold at a share; NaN where there is none (Random, another grid)."""
    if thresholds is None or score not in thresholds["score"].to_numpy():
        return float("nan")
    cuts = thresholds.sel(score=score)
    near = np.flatnonzero(np.isclose(cuts["percent"].to_numpy().astype(float), percent))
    return float(cuts.to_numpy()[near[0]]) if len(near) else float("nan")


def _finite(values: xr.DataArray) -> np.ndarray:
    flat = np.asarray(values.to_numpy(), dtype=float).ravel()
    return flat[np.isfinite(flat)]
