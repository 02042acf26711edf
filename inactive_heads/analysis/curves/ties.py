"""When two numbers are equal, although rounding makes them differ: ranks with ties, and the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

ROUNDING = 1e-9
"""Numbers closer than this fraction of their usual size differ by rounding only."""


def tied_ranks(values: pd.Series, *, higher_is_better: bool, rounding: float) -> pd.Series:
    """Return the rank of every value, 1 for the best; equal values share the lowest of theirs.

    >>> tied_ranks(pd.Series([50.0, 50.00000000000001, 40.0]), higher_is_better=True,
    ...            rounding=1e-7).tolist()
    [1, 1, 3]

    Args:
        values: finite numbers.
        higher_is_better: whether the highest value has rank 1.
        rounding: values of the same rank are no further than this from the best of them.

    Returns:
        Whole numbers, with the index of ``values``.
    """
    keyed = -values.to_numpy(float) if higher_is_better else values.to_numpy(float)
    ranks = np.empty(len(keyed), dtype=int)
    first, rank = -np.inf, 0
    for place, row in enumerate(np.argsort(keyed, kind="stable"), 1):
        if not keyed[row] <= first + rounding:
            first, rank = keyed[row], place
        ranks[row] = rank
    return pd.Series(ranks, index=values.index, name="rank")


def best_rows(table: pd.DataFrame, column: str, *, rounding: float) -> pd.DataFrame:
    """Return the rows with the highest value in a column, those that tie with it included.

    Args:
        table: a table.
        column: a column of numbers.
        rounding: values no further than this from the highest tie with it.

    Returns:
        The rows, in the order of the table.
    """
    return table[table[column] >= table[column].max() - rounding]


def joined(names: Sequence[object]) -> str:
    """Return names in words: "A", "A and B", or "A, B and C".

    Args:
        names: the names, at least one.
    """
    *before, last = map(str, names)
    return f"{', '.join(before)} and {last}" if before else last
