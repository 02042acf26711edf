"""Thresholds for one percent of heads on several data sets: does a threshold carry over?

A table of thresholds has the columns task (the data set), model, score, percent and threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.csv_table import read_table
from inactive_heads.analysis.curves.table import as_floats, as_names, known_headings, require
from inactive_heads.analysis.heads.thresholds import choose_thresholds
from inactive_heads.errors import UserError

MOST = np.finfo(float).max
COLUMNS = ["task", "model", "score", "percent", "threshold"]
"""The columns of a table of thresholds."""


def read_thresholds(path: str | Path) -> pd.DataFrame:
    """Return the thresholds in a CSV file.

    Args:
        path: a file with the columns task, model, score, percent and threshold.

    Returns:
        A table with these five columns.

    Raises:
        UserError: the file cannot be read, a column is missing, a cell is empty or not a finite
            number, or a percent is outside 0 to 100.
    """
    table = known_headings(read_table(path), COLUMNS)
    require(table, COLUMNS, str(path))
    for column in ("task", "model", "score"):
        table[column] = as_names(table[column], str(path))
    for column in ("percent", "threshold"):
        table[column] = as_floats(table[column], str(path))
        if (missing := table[column].isna()).any():
            raise UserError(f"{path}: {column} in row {missing.idxmax()} is empty")
    for column, low, high in (("percent", 0, 100), ("threshold", -MOST, MOST)):
        if (odd := ~table[column].between(low, high)).any():
            raise UserError(
                f"{path}: {column} in row {odd.idxmax()} is {table[column][odd.idxmax()]:g}, not a "
                + ("percentage from 0 to 100" if column == "percent" else "finite number")
            )
    return table[COLUMNS]


def thresholds_table(thresholds: xr.DataArray, *, model: str, task: str) -> pd.DataFrame:
    """Return thresholds of one model on one data set as a table.

    Args:
        thresholds: ``(score, percent)``, from `choose_thresholds`.
        model: the name of the model.
        task: the name of the data set.

    Returns:
        One row per score and percent, with the columns task, model, score, percent and threshold.
    """
    values = thresholds.transpose("score", "percent")
    rows = [
        (task, model, str(name), float(percent), float(values[i, j]))
        for i, name in enumerate(values["score"].to_numpy())
        for j, percent in enumerate(values["percent"].to_numpy())
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def thresholds_by_task(
    scores: Mapping[str, xr.DataArray], percents: Sequence[float], *, model: str
) -> pd.DataFrame:
    """Return the thresholds chosen on the inputs of each task, as one table.

    Args:
        scores: task → the scores ``(score, sample, layer, head)`` of its inputs.
        percents: percents of heads to choose thresholds for.
        model: the name of the model.

    Returns:
        One row per task, score and percent, with the columns task, model, score, percent and
        threshold.

    Raises:
        UserError: a percent is out of range or given twice, or a score has no finite value.
    """
    tables = [
        thresholds_table(choose_thresholds(own, percents), model=model, task=task)
        for task, own in scores.items()
    ]
    return pd.concat(tables, ignore_index=True)


def thresholds_of_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the thresholds that a sweep chose on its tasks, as one table.

    Args:
        curves: from `sweep`. Points without a percent or a threshold are left out: Random, fixed
            sets, and published curves, which do not list the percents of their thresholds.

    Returns:
        One row per task, model, score and percent, with the columns task, model, score, percent and
        threshold.
    """
    rows = curves[curves["percent"].notna() & curves["threshold"].notna()]
    return rows[COLUMNS].drop_duplicates(ignore_index=True)


def threshold_stability(table: pd.DataFrame) -> pd.DataFrame:
    """Return the thresholds of all data sets side by side, with their spread.

        threshold_stability(read_thresholds("thresholds.csv")).sort_values("relative_spread")

    Args:
        table: one row per task, model, score and percent, from `thresholds_by_task` or
            `read_thresholds`.

    Returns:
        One row per model, score and percent, with the columns model, score and percent; one column
        per data set, in order of appearance; spread, the largest threshold minus the smallest; and
        relative_spread, the spread over the mean of the absolute values. Spreads are NaN with fewer
        than two data sets.

    Raises:
        UserError: two thresholds are given for the same model, score, percent and data set, or a
            data set is named like one of the other columns.
    """
    keys = ["model", "score", "percent"]
    if (twice := table.duplicated([*keys, "task"])).any():
        row = table[twice].iloc[0]
        named = f"{row['model']}, {row['score']}, {row['percent']:g}%, {row['task']}"
        raise UserError(f"there are two thresholds for {named}; give each data set once")
    tasks = list(dict.fromkeys(table["task"]))
    if taken := set(tasks) & {*keys, "spread", "relative_spread"}:
        raise UserError(f"no data set can be called {taken.pop()!r} here; rename it")
    wide = table.pivot_table(index=keys, columns="task", values="threshold")[tasks]
    order = table[keys].drop_duplicates()
    wide = wide.loc[list(order.itertuples(index=False, name=None))]
    known = wide.notna().sum(axis=1) > 1
    spread = (wide.max(axis=1) - wide.min(axis=1)).where(known)
    size = wide.abs().mean(axis=1)
    # If all thresholds are 0, there is no size to divide by.
    relative = spread / size.where(size > 0, np.nan)
    return (
        wide.assign(spread=spread, relative_spread=relative).rename_axis(columns=None).reset_index()
    )
