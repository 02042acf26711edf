"""The summary that the report command prints."""

from __future__ import annotations

import pandas as pd
from rich.table import Table


def summary_table(summary: pd.DataFrame, at: float) -> Table:
    """The summary of a report as a table to print.

    Args:
        summary: the summary of all models, from `build_reports`.
        at: the percent of heads that the summary is for.

    Returns:
        A table with one row per model, task and score, the best rank first.
    """
    several = summary["model"].nunique() > 1
    whose = "by model" if several else summary["model"].iloc[0]
    table = Table(title=f"At {at:g}% of heads, {whose}")
    # column of the summary → its title, and the format of its numbers
    columns = {
        **({"model": ("model", "")} if several else {}),
        "task": ("task", ""),
        "score": ("score", ""),
        "percent_zeroed": ("% zeroed", ".1f"),
        "accuracy": ("accuracy %", ".1f"),
        "loss": ("loss", ".3f"),
        "normalized_auc": ("AUC", ".2f"),
        "rank": ("rank", ".0f"),
    }
    for name, (title, _) in columns.items():
        table.add_column(title, justify="left" if name in ("model", "task", "score") else "right")
    for _, row in summary.sort_values(["model", "task", "rank"]).iterrows():
        # A task measures accuracy or loss; the other is NaN, which is shown as an empty cell.
        cells = [row[name] for name in columns]
        styles = [style for _, style in columns.values()]
        shown = zip(cells, styles, strict=True)
        table.add_row(*("" if cell != cell else format(cell, style) for cell, style in shown))
    return table
