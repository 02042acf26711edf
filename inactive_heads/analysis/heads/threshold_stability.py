"""Thresholds of one share across data sets, side by side: does a threshold carry over?

A table of thresholds has the columns task (the data set), model, score, percent and threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.curves.table import as_floats, read_table, require
from inactive_heads.analysis.heads.thresholds import choose_thresholds
from inactive_heads.errors import UserError

COLUMNS = ["task", "model", "score", "percent", "threshold"]


def read_thresholds(path: str | Path) -> pd.DataFrame:
    """The thresholds of a CSV file with the columns task, model, score, percent and threshold.

    Raises:
        UserError: no such file, a column is missing, or a cell is not a number.
    """
    table = read_table(path)
    require(table, COLUMNS, str(path))
    for column in ("percent", "threshold"):
        table[column] = as_floats(table[column], str(path))
        if (missing := table[column].isna()).any():
            raise UserError(f"{path}: {column} in row {missing.idxmax()} is empty")
    return table[COLUMNS]


def thresholds_table(thresholds: xr.DataArray, *, model: str, task: str) -> pd.DataFrame:
    """What `choose_thresholds` gave, as such a table."""
    values = thresholds.transpose("score", "percent")
    rows = [
        (task, model, str(name), float(share), float(values[i, j]))
        for i, name in enumerate(values["score"].to_numpy())
        for j, share in enumerate(values["percent"].to_numpy())
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def thresholds_by_task(
    scores: Mapping[str, xr.DataArray], percents: Sequence[float], *, model: str
) -> pd.DataFrame:
    """The thresholds that each task's own inputs give, as such a table.

    ``scores`` are those of every task's inputs, from `score_heads` or a sweep.
    """
    tables = [
        thresholds_table(choose_thresholds(own, percents), model=model, task=task)
        for task, own in scores.items()
    ]
    return pd.concat(tables, ignore_index=True)


def thresholds_of_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """The thresholds that a sweep chose on its tasks, as such a table.

    Points without a share or a threshold are left out: Random, fixed sets, and published curves,
    which do not say for which share their thresholds were chosen.
    """
    rows = curves[curves["percent"].notna() & curves["threshold"].notna()]
    return rows[COLUMNS].drop_duplicates(ignore_index=True)


def threshold_stability(table: pd.DataFrame) -> pd.DataFrame:
    """The thresholds of each model, score and share, one column per data set, and their spread.

    Columns: model, score, percent, the data sets in the order in which they appear; ``spread``,
    the largest minus the smallest; ``relative_spread``, that over the mean of their absolute
    values. Spreads are NaN where fewer than two data sets have a threshold.

    Raises:
        UserError: a model, score, share and data set stands twice, or a data set is called as
            one of the other columns is.
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
    # Where all thresholds are 0 there is no size to compare with.
    relative = spread / size.where(size > 0, np.nan)
    return (
        wide.assign(spread=spread, relative_spread=relative).rename_axis(columns=None).reset_index()
    )
