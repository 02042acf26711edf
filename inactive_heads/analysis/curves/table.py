"""Tables of curves: reading, validation and grouping.

A *curve* is one model's accuracy (in %) or loss (in nats per token) on one task, against the
percent of heads zeroed by one score. A table has one row per point, with the columns ``model``,
``task``, ``mode``, ``score``, ``percent`` (asked for), ``percent_zeroed`` (really zeroed) and
``accuracy`` or ``loss``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from inactive_heads.analysis.csv_table import MISSING, read_table
from inactive_heads.analysis.curves.metrics import ACCURACY, METRICS, Metric
from inactive_heads.errors import UserError, shortened
from inactive_heads.names import RANDOM

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
    percent_zeroed, and accuracy (in %) or loss. Published tables may name tasks in columns instead
    (``mmlu_accuracy``, ``piqa_accuracy``). Without a mode column, the mode is the paper's,
    "per-input". Names are text, "None", "NA" and "007" too.

    Args:
        path: the CSV file, separated by commas, semicolons or tabs.

    Returns:
        One row per point, with the columns model, task, mode, score, percent_zeroed, percent,
        threshold, accuracy, ci_low, ci_high, n, loss, loss_low and loss_high, then any others.
        Columns that the file lacks are NaN.

    Raises:
        UserError: the file does not exist or is not a table, a column is missing, a name is empty,
            a cell is not a number or out of range (the message names the row), a point stands
            twice, or percentages are given as fractions of 1.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of curves at {str(path)!r}")
    table = read_table(path)
    if table.empty:
        raise UserError(f"{str(path)!r} has no curves: it has no row below its header")
    return as_curves(table, where=str(path))


def as_curves(table: pd.DataFrame, *, where: str = "the table of curves") -> pd.DataFrame:
    """Return a table of curves with all columns that functions on curves expect.

    Args:
        table: as in a file that `read_curves` reads; model or score may be its index.
        where: the name of the table in error messages.

    Returns:
        The table with the columns of `read_curves`, its rows numbered from 0.

    Raises:
        UserError: as for `read_curves`.
    """
    if not isinstance(table, pd.DataFrame):
        raise UserError(
            f"curves are a pandas.DataFrame, not a {type(table).__name__}; read_curves reads a file"
        )
    named = {*CURVE_KEYS, "score", "percent_zeroed", "percent"}
    curves = table.reset_index(drop=not named & {*map(str, table.index.names)})
    curves = known_headings(curves, [*named, *_OPTIONAL])
    curves = _one_task_a_row(curves, where)
    require(curves, ["model", "score", "percent_zeroed"], where)
    if not {"accuracy", "loss"} & {*curves.columns}:
        raise UserError(f"{where} has no column accuracy or loss; it has {_listed(curves)}")
    usual = {"task": UNNAMED_TASK, "mode": "per-input", **dict.fromkeys(_OPTIONAL, np.nan)}
    for column in usual.keys() - {*curves.columns}:
        curves[column] = usual[column]
    for column in (*CURVE_KEYS, "score"):
        curves[column] = as_names(curves[column], where)
    for column in ("percent_zeroed", *_OPTIONAL):
        curves[column] = as_floats(curves[column], where)
    _check_ranges(curves, where)
    check_points(curves, where)
    first = [*CURVE_KEYS, "score", "percent_zeroed", *_OPTIONAL]
    return curves[[*first, *(c for c in curves.columns if c not in first)]]


def known_headings(table: pd.DataFrame, known: Iterable[str]) -> pd.DataFrame:
    """Return a table whose known columns are called so, whatever their case and white space.

    Args:
        table: a table, whose "Percent Zeroed" is to be ``percent_zeroed``.
        known: the names of columns.

    Returns:
        The table; columns that are not known keep their names.
    """
    plain = {column: re.sub(r"\s+", "_", str(column).strip().lower()) for column in table.columns}
    wanted = {*known} - {*table.columns}
    return table.rename(
        columns={old: new for new, old in {v: k for k, v in plain.items()}.items() if new in wanted}
    )


def check_points(curves: pd.DataFrame, where: str) -> None:
    """Check that no point of a curve stands twice.

    Args:
        curves: from `as_curves`.
        where: the name of the table in error messages.

    Raises:
        UserError: one does; the message names it.
    """
    point = [*CURVE_KEYS, "score", "percent_zeroed", "threshold", "percent"]
    if (twice := curves.duplicated(point)).any():
        row = curves[twice].iloc[0]
        at = row["percent_zeroed"] if np.isnan(row["percent"]) else row["percent"]
        named = ", ".join(str(row[key]) for key in CURVE_KEYS)
        raise UserError(
            f"the curves have {row['score']!r} at {at:g}% twice: a point of {named} stands twice in "
            f"{where}"
        )


def _one_task_a_row(curves: pd.DataFrame, where: str) -> pd.DataFrame:
    """Curves whose tasks are named in columns, such as ``mmlu_accuracy``, with a row for each."""
    found = {column: re.fullmatch(r"(.+)_accuracy", str(column), re.I) for column in curves}
    tasks = {column: match[1] for column, match in found.items() if match}
    if not tasks:
        return curves
    if clash := {"accuracy", "task"} & {*curves.columns}:
        raise UserError(
            f"{where} has the columns {min(clash)} and {next(iter(tasks))}; keep one of them"
        )
    shared = [name for name in ("ci_low", "ci_high", "n") if name in curves]
    if len(tasks) > 1 and shared:
        raise UserError(
            f"{where}: of which task is {shared[0]}? It has {', '.join(map(str, tasks))}; give each "
            "task rows of its own, with the columns task and accuracy"
        )
    rest = curves.drop(columns=list(tasks))
    parts = [rest.assign(task=task, accuracy=curves[column]) for column, task in tasks.items()]
    if len(parts) > 1:  # a model need not be measured on every task
        parts = [part[~_is_missing(part["accuracy"])] for part in parts]
    return pd.concat(parts, ignore_index=True)


def _check_ranges(curves: pd.DataFrame, where: str) -> None:
    """Raise ``UserError`` for percentages out of range, or given as fractions of 1."""
    if (missing := curves["percent_zeroed"].isna()).any():
        raise UserError(f"{where}: percent_zeroed in row {missing.idxmax()} is missing")
    for column in ("percent_zeroed", "percent", "accuracy"):
        values = curves[column]
        if (odd := ~values.between(0, 100) & values.notna()).any():
            raise UserError(
                f"{where}: {column} in row {odd.idxmax()} is {values[odd.idxmax()]:g}; it is a "
                "percentage from 0 to 100"
            )
    if (odd := np.isinf(curves["loss"])).any():
        raise UserError(f"{where}: loss in row {odd.idxmax()} is infinite")
    # Few questions may all be answered wrong, and then the interval reaches beyond 1%.
    for (model, task), own in curves.groupby(["model", "task"], sort=False):
        highest = own["accuracy"].max()
        if 0 < highest <= 1 and not own["ci_high"].max() > 1:
            raise UserError(
                f"{where}: accuracy of {model}, {task} is at most {highest:g}; it is given in %, so "
                "0.62 must be 62"
            )
    # A table that has the percents asked for too knows what a percent is.
    most = curves["percent_zeroed"].max()
    if 0 < most <= 1 and curves["percent"].isna().all():
        raise UserError(
            f"{where}: percent_zeroed is at most {most:g}; it is given in %, so 0.3 must be 30"
        )


def as_names(column: pd.Series, where: str) -> pd.Series:
    """Return a column of names as text, without white space around them.

    Args:
        column: a column of a table, of text or numbers.
        where: the name of the table in error messages.

    Returns:
        The column as text.

    Raises:
        UserError: a name is missing; the message names the row.
    """
    names = column.map(_text)
    if (missing := names == "").any():
        raise UserError(
            f"{where}: {column.name} in row {missing.idxmax()} is missing (pandas.read_csv makes NaN of "
            "the names NA and None, read_curves does not)"
        )
    return names


def _text(name: object) -> str:
    if name is None or (not isinstance(name, str) and pd.isna(name)):
        return ""
    if isinstance(name, float) and name.is_integer():
        return str(int(name))
    return str(name).strip()


def _is_missing(column: pd.Series) -> pd.Series:
    return column.isna() | column.isin(MISSING)


def _listed(table: pd.DataFrame) -> str:
    return shortened([str(column) for column in table.columns])


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
    if (bad := found.isna() & ~_is_missing(column)).any():
        row = bad.idxmax()
        value = shortened(column[row])
        hint = "; write 12.5 with a point" if re.fullmatch(r"'\d+,\d+'", value) else ""
        raise UserError(f"{where}: {column.name} in row {row} is {value}, not a number{hint}")
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
        raise UserError(f"{where} has no column {missing}; it has {_listed(table)}")
