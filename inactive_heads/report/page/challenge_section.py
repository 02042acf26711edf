"""The section of a page that compares scores of one's own with the best of the paper's."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric
from inactive_heads.report.page.model_results import ModelResults
from inactive_heads.report.page.parts import Cell, Section, Shown, Table, as_csv, cell, number
from inactive_heads.report.page.summary_tables import between
from inactive_heads.report.page.verdict import DIGITS


def challenge_section(models: Mapping[str, ModelResults]) -> list[Section]:
    """The section of models that were swept by scores that are not the paper's; none without."""
    tables = []
    for label, one in models.items():
        if one.challenges is None:
            continue
        for (task, reference), rows in one.challenges.groupby(["task", "reference"], sort=False):
            title = f"{task}: against {reference}, the best of the paper’s"
            tables.append(
                Table(
                    title if len(models) == 1 else f"{label}, {title}",
                    _COLUMNS[rows["metric"].iloc[0]],
                    [_cells(row) for _, row in rows.iterrows()],
                    as_csv(rows),
                    shown=Shown(model=label if len(models) > 1 else None),
                )
            )
    return [Section("challenge", "Challenge", tables, _HOW)] if tables else []


def _cells(row: pd.Series) -> list[Cell]:
    digits = DIGITS[row["metric"]]
    ends = row["difference"], row["difference_low"], row["difference_high"]
    return [
        cell(row["score"], ""),
        number(row["percent"], "g"),
        number(row["compared_at"], ".1f"),
        between(*ends, digits),
        cell(row["verdict"], ""),
    ]


def _titles(difference: str) -> list[str]:
    return [
        *("score", "asked for, %", "compared at, %"),
        f"{difference} [95%\u00a0interval]",
        "verdict",
    ]


_COLUMNS: dict[Metric, list[str]] = {
    "loss": _titles("loss less the best’s, nats/token"),
    "accuracy": _titles("accuracy less the best’s, points"),
}
_HOW = (
    "Scores that are not the paper’s against the paper’s best on the same items, where both zero "
    "equally many heads: the share asked for, or the largest that both reached, on the straight "
    "line between the two nearest points. Negative is less loss, positive more right answers. "
    "“Better” and “worse” are said where the paired 95% interval is on one side of 0; the best was "
    "chosen on these items, which makes it the harder to beat, and no interval is corrected for how "
    "many scores and shares were tried."
)
