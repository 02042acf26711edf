"""Tables of curves: reading, validation and grouping.

A *curve* is one model's accuracy (in %) or loss (in nats per token) on one task, against the
percent of heads zeroed by one score. A table has one row per point, with the columns ``model``,
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
"""The columns that identify a group of curves."""

UNNAMED_TASK = "unnamed task"
"""The task of curves that do not name one."""

_OPTIONAL = [
    *("percent", "threshold", "accuracy", "ci_low", "ci_high", "n"),
    *("loss", "loss_low", "loss_high"),
]


def read_curves(path: str | Path) -> pd.DataFrame:
    """Return the curves in a CSV file, with all columns that functions on curves expect.

        curves = read_curves("published.csv")
        rank_scores(curves)

    It reads what `sweep` writes, and other tables: the required columns are model, score,
    percent_zeroed, and accuracy (in %) or loss. Published tables may name the task in the column
    instead (``mmlu_accuracy``). Without a mode column, the mode is the paper's, "per-input".

    Args:
        path: the CSV file.

    Returns:
        One row per point, with the columns model, task, mode, score, percent_zeroed, percent,
        threshold, accuracy, ci_low, ci_high, n, loss, loss_low and loss_high, then any others.
        Columns that the file lacks are NaN.

    Raises:
        UserError: the file does not exist or is not a table, a column is missing, a cell is not a
            number (the message names the row), or accuracies are fractions of 1.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of curves at {str(path)!r}")
    return as_curves(read_table(path), where=str(path))


def as_curves(table: pd.DataFrame, *, where: str = "the table of curves") -> pd.DataFrame:
    """Return a table of curves with all columns that functions on curves expect.

    Args:
        table: as in a file that `read_curves` reads.
        where: the name of the table in error messages.

    Returns:
        The table with the columns of `read_curves`.

    Raises:
        UserError: as for `read_curves`.
    """
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
    """Return the contents of a CSV file, unchanged.

    Args:
        path: the CSV file.

    Returns:
        One row per line of the file.

    Raises:
        UserError: the file cannot be read, is empty, or is not a table.
    """
    try:
        return pd.read_csv(path)
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} is not a table in CSV: {error}") from error


def as_floats(column: pd.Series, where: str) -> pd.Series:
    """Return a column as floats, NaN where a cell is empty.

    Args:
        column: a column of a table, of any type.
        where: the name of the table in error messages.

    Returns:
        The column as float64.

    Raises:
        UserError: a cell is not a number; the message names the row.
    """
    found = pd.to_numeric(column, errors="coerce").astype(float)
    if (bad := found.isna() & column.notna()).any():
        row = bad.idxmax()
        raise UserError(f"{where}: {column.name} in row {row} is {column[row]!r}, not a number")
    return found


def baseline_row(group: pd.DataFrame) -> pd.Series | None:
    """Return the row of the unablated model, or None if there is none.

    It is the row of Random with no head zeroed.

    Args:
        group: the curves of one model, task and mode.

    Returns:
        The row, or None.
    """
    none_zeroed = group[group["percent_zeroed"] == 0]
    if none_zeroed.empty:
        return None
    # Every score has such a row, but only Random's is sure to be unablated: at 0%, a threshold
    # chosen on one data set may still catch a head on another.
    random = none_zeroed[none_zeroed["score"] == RANDOM]
    return random.iloc[0] if len(random) else None


def groups_of(
    curves: pd.DataFrame, metric: Metric
) -> Iterator[tuple[tuple[Hashable, ...], pd.DataFrame]]:
    """Yield the curves of each model, task and mode that has values of a metric.

    Args:
        curves: a table of curves.
        metric: the metric.

    Yields:
        The values of ``CURVE_KEYS``, and the rows of that group.

    Raises:
        UserError: a column is missing, or no group has a value of the metric.
    """
    require(curves, [*CURVE_KEYS, "score", "percent_zeroed", metric], "the table of curves")
    found = False
    for keys, group in curves.groupby(CURVE_KEYS, sort=False, dropna=False):
        if group[metric].notna().any():
            found = True
            yield keys, group
    if not found:
        raise UserError(f"no curve has a value of {metric!r}")


def metrics_of(table: pd.DataFrame) -> list[Metric]:
    """Return the metrics that a table has values of, accuracy before loss.

    Args:
        table: any table; a metric's column may be missing.
    """
    return [metric for metric in METRICS if metric in table and table[metric].notna().any()]


def metric_of(table: pd.DataFrame) -> Metric:
    """Return the one metric that a table has values of; accuracy if it has none.

    Args:
        table: curves, or a summary, of one model, task and mode.
    """
    return next(iter(metrics_of(table)), ACCURACY)


def require(table: pd.DataFrame, columns: list[str], where: str) -> None:
    """Check that a table has certain columns.

    Args:
        table: the table.
        columns: the columns it must have.
        where: the name of the table in error messages.

    Raises:
        UserError: a column is missing.
    """
    if missing := [column for column in columns if column not in table]:
        raise UserError(f"{where} has no column {missing}; it has {list(table.columns)}")
