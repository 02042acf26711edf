"""Curves of accuracy or loss: reading them, area under them, how much can be zeroed, ranks.

A *curve* is one model's accuracy (in %) or loss (nats per token) on one task against the % of
heads zeroed by one score. Tables of curves have one row per point, with the columns ``model``,
``task``, ``mode``, ``score``, ``percent`` (asked for), ``percent_zeroed`` (really zeroed) and
``accuracy`` or ``loss``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import ACCURACY, METRICS, Metric
from inactive_heads.errors import UserError

RANDOM = "Random"
"""The name of the baseline that zeroes heads at random."""

CURVE_KEYS = ["model", "task", "mode"]
"""What tells groups of curves apart."""

UNNAMED_TASK = "unnamed task"
"""The task of curves that name none."""

_OPTIONAL = [
    *("percent", "threshold", "accuracy", "ci_low", "ci_high", "n"),
    *("loss", "loss_low", "loss_high"),
]


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
        curves[column] = as_floats(curves[column], where)
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


def as_floats(column: pd.Series, where: str) -> pd.Series:
    """A column as floats, NaN where a cell is empty.

    Raises:
        UserError: a cell that is not a number; the message names the row.
    """
    found = pd.to_numeric(column, errors="coerce").astype(float)
    if (bad := found.isna() & column.notna()).any():
        row = bad.idxmax()
        raise UserError(f"{where}: {column.name} in row {row} is {column[row]!r}, not a number")
    return found


def baseline_row(group: pd.DataFrame) -> pd.Series | None:
    """The row of one model, task and mode where no head was zeroed; None where there is none."""
    none_zeroed = group[group["percent_zeroed"] == 0]
    if none_zeroed.empty:
        return None
    # Every score has such a row. Random's is the one that was surely never touched: at a share of
    # 0% a threshold taken from one data set may still catch a head on another.
    random = none_zeroed[none_zeroed["score"] == RANDOM]
    return random.iloc[0] if len(random) else None


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


def metrics_of(table: pd.DataFrame) -> list[Metric]:
    """The metrics of which a table has values, accuracy before loss."""
    return [metric for metric in METRICS if metric in table and table[metric].notna().any()]


def metric_of(table: pd.DataFrame) -> Metric:
    """The metric of a table that is measured by one of them; accuracy where it has no values."""
    return next(iter(metrics_of(table)), ACCURACY)


def require(table: pd.DataFrame, columns: list[str], where: str) -> None:
    """Nothing, or ``UserError`` where a column is missing."""
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{where} has no column {missing}; it has {list(table.columns)}")
