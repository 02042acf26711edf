"""Curves of accuracy or loss: reading them, area under them, how much can be zeroed, ranks.

A *curve* is one model's accuracy (in %) or loss (nats per token) on one task against the % of
heads zeroed by one score. Tables of curves have one row per point, with the columns ``model``,
``task``, ``mode``, ``score``, ``percent`` (asked for), ``percent_zeroed`` (really zeroed) and
``accuracy`` or ``loss``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from inactive_heads.errors import UserError

Metric = Literal["accuracy", "loss"]
Direction = Literal["higher", "lower"]
Numbers: TypeAlias = Sequence[float] | np.ndarray | pd.Series

RANDOM = "Random"
CURVE_KEYS = ["model", "task", "mode"]
METRICS: tuple[Metric, ...] = ("accuracy", "loss")
TOLERANCE: dict[Metric, float] = {"accuracy": 1.0, "loss": 0.05}
UNNAMED_TASK = "unnamed task"
_BETTER: dict[Metric, Direction] = {"accuracy": "higher", "loss": "lower"}
_UNIT: dict[Metric, str] = {"accuracy": "pt", "loss": "_nats"}
_OPTIONAL = ["percent", "threshold", "accuracy", "ci_low", "ci_high", "n"]
_OPTIONAL += ["loss", "loss_low", "loss_high"]


def within_column(metric: Metric, within: float | None = None) -> str:
    """The name of the column that holds how much can be zeroed: ``percent_within_1pt``."""
    return f"percent_within_{TOLERANCE[metric] if within is None else within:g}{_UNIT[metric]}"


def reach_column(ranking: pd.DataFrame) -> str:
    """The column of a ranking that says how much can be zeroed, whatever the tolerance."""
    found = [str(column) for column in ranking if str(column).startswith("percent_within_")]
    if not found:
        raise UserError(f"this is no table from rank_scores; it has {list(ranking.columns)}")
    return found[0]


def read_curves(path: str | Path) -> pd.DataFrame:
    """The curves of a CSV file, with the columns that every other function here expects.

    Takes what a sweep writes, and tables of others: all that is needed is model, score,
    percent_zeroed and accuracy (in %) or loss. Published tables name the task in the column of
    accuracies (``mmlu_accuracy``); a mode that is not said is the paper's, "per-input". What is
    not in the file stays NaN.

    Raises:
        UserError: no such file, a column is missing, a cell is not a number, or accuracies are
            shares of 1; the message names the row.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of curves at {str(path)!r}")
    return as_curves(read_table(path), where=str(path))


def as_curves(table: pd.DataFrame, *, where: str = "the table of curves") -> pd.DataFrame:
    """A table of curves with all the columns that are expected; see `read_curves`."""
    curves = table.copy()
    for column in list(curves.columns):
        if found := re.fullmatch(r"(\w+)_accuracy", str(column)):
            curves = curves.rename(columns={column: "accuracy"}).assign(task=found[1])
            break
    for column, usual in (("task", UNNAMED_TASK), ("mode", "per-input")):
        if column not in curves:
            curves[column] = usual
    for column in _OPTIONAL:
        if column not in curves:
            curves[column] = np.nan
    require(curves, [*CURVE_KEYS, "score", "percent_zeroed"], where)
    for column in ("percent_zeroed", *_OPTIONAL):
        curves[column] = numbers(curves[column], where)
    highest = curves["accuracy"].max()
    if 0 < highest <= 1:
        raise UserError(
            f"{where}: accuracy is at most {highest:g}; it is given in %, so 0.62 must be 62"
        )
    first = [*CURVE_KEYS, "score", "percent_zeroed", *_OPTIONAL]
    return curves[[*first, *(c for c in curves.columns if c not in first)]]


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV file as it is.

    Raises:
        UserError: it is not there, is empty, or is not a table.
    """
    try:
        return pd.read_csv(path)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} is not a table in CSV: {error}") from error


def numbers(column: pd.Series, where: str) -> pd.Series:
    """A column as floats, NaN where a cell is empty.

    Raises:
        UserError: a cell that is not a number; the message names the row.
    """
    found = pd.to_numeric(column, errors="coerce").astype(float)
    if (bad := found.isna() & column.notna()).any():
        row = bad.idxmax()
        raise UserError(f"{where}: {column.name} in row {row} is {column[row]!r}, not a number")
    return found


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

    A score that never zeroed a head, at whatever share, has no curve and is left out: with one
    key/value head, say, FTVVN (LN) is 1 for every head. Groups measured by the other metric are
    left out too; ``UserError`` when none is left, for a NaN among a group's values, and for a
    curve of a single point.
    """
    column, rows = within_column(metric, within), []
    tolerance = TOLERANCE[metric] if within is None else within
    for keys, group in groups_of(curves, metric):
        start = baseline_row(group)
        for score, curve in group.groupby("score", sort=False):
            if len(curve) > 1 and not curve["percent_zeroed"].any():
                continue
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


def groups_of(
    curves: pd.DataFrame, metric: Metric
) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """The curves of each model, task and mode that is measured by ``metric``."""
    require(curves, [*CURVE_KEYS, "score", "percent_zeroed", metric], "the table of curves")
    found = False
    for keys, group in curves.groupby(CURVE_KEYS, sort=False, dropna=False):
        if group[metric].notna().any():
            found = True
            yield keys, group
    if not found:
        raise UserError(f"no curve has a value of {metric!r}")


def require(table: pd.DataFrame, columns: list[str], where: str) -> None:
    """Nothing, or ``UserError`` where a column is missing."""
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{where} has no column {missing}; it has {list(table.columns)}")
