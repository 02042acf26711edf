"""The section that compares a user's scores with the best of the paper's."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric, get_metric
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.report.page.parts import Cell, Section, Shown, Table, as_csv, cell, number
from inactive_heads.report.page.summary_tables import between


def challenge_section(models: Mapping[str, ModelResults]) -> list[Section]:
    """Return the section of models that were swept by scores other than the paper's.

    Args:
        models: label → results.

    Returns:
        One section with a table per model, task and reference; none if no model has such scores.
    """
    tables = []
    for label, one in models.items():
        if one.challenges is None:
            continue
        for (task, reference), rows in one.challenges.groupby(["task", "reference"], sort=False):
            metric = get_metric(rows["metric"].iloc[0])
            title = f"{task}: against {reference}, the best of the paper’s"
            if tied := rows["tied"].iloc[0]:
                title += f" (it ties with {tied})"
            tables.append(
                Table(
                    title if len(models) == 1 else f"{label}, {title}",
                    _headings(metric),
                    [_cells(row, metric) for _, row in rows.iterrows()],
                    as_csv(rows),
                    shown=Shown(model=label if len(models) > 1 else None),
                )
            )
    return [Section("challenge", "Challenge", tables, _HOW)] if tables else []


def _cells(row: pd.Series, metric: Metric) -> list[Cell]:
    ends = row["difference"], row["difference_low"], row["difference_high"]
    return [
        cell(row["score"], ""),
        number(row["percent"], "g"),
        number(row["compared_at"], ".1f"),
        between(*ends, metric.digits),
        cell(row["verdict"], ""),
    ]


def _headings(metric: Metric) -> list[str]:
    unit = metric.change_unit.replace(" per ", "/")
    difference = f"{metric} less the best’s, {unit} [95%\u00a0interval]"
    return ["score", "asked for, %", "compared at, %", difference, "verdict"]


_HOW = (
    "Scores that are not the paper’s against the paper’s best on the same items, where both zero "
    "equally many heads: the share asked for, or the largest that both reached, on the straight "
    "line between the two nearest points. Negative is less loss, positive more right answers. "
    "“Better” and “worse” are said where the paired 95% interval is on one side of 0; the best was "
    "chosen on these items, which makes it the harder to beat, and no interval is corrected for how "
    "many scores and shares were tried."
)
