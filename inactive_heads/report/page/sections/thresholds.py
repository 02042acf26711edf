"""The section on thresholds for the same percent of heads on several data sets."""

from __future__ import annotations

import numpy as np
import pandas as pd

from inactive_heads import plots
from inactive_heads.analysis.heads.threshold_stability import threshold_stability
from inactive_heads.report.page.parts import Chart, Section, Shown, Table, frame_table


def stability(table: pd.DataFrame) -> list[Section]:
    """Return the section on how far thresholds carry over from one data set to another.

    Args:
        table: thresholds, with the columns task, model, score, percent and threshold.

    Returns:
        One section; none unless a score has thresholds on two data sets.

    Raises:
        UserError: two thresholds are given for the same model, score, percent and data set.
    """
    tasks = list(dict.fromkeys(table["task"]))
    if len(tasks) < 2:
        return []
    wide = threshold_stability(table)
    wide = wide[wide["spread"].notna()]
    if wide.empty:
        return []
    several = wide["model"].nunique() > 1
    columns = {"score": ("score", "")} | {task: (task, ".3f") for task in tasks}
    columns |= {"spread": ("spread", ".3f"), "relative_spread": ("relative spread", ".2f")}
    parts: list[Table | Chart] = []
    for percent in np.unique(wide["percent"]):
        shown = Shown(percent=float(percent))
        title = f"Spread of the thresholds for {percent:g}% of heads"
        parts.append(Chart(title, plots.threshold_spread(wide, percent), shown=shown))
    for (model, percent), group in wide.groupby(["model", "percent"], sort=False):
        shown = Shown(model=str(model) if several else None, percent=float(percent))
        parts.append(
            frame_table(
                f"{model}: thresholds for {percent:g}% of heads",
                group,
                columns,
                shown=shown,
                late=True,
            )
        )
    if several:
        every = {"model": ("model", ""), "percent": ("share, %", "g")} | columns
        title = "The thresholds of all models and shares"
        parts.append(frame_table(title, wide, every, folded=True))
    words = (
        "One column per data set, at the chosen share. “Spread” is the largest threshold minus the "
        "smallest, “relative spread” that over the mean of their sizes. A score with a small "
        "relative spread (dark) carries its threshold from one data set to another; with a large "
        "one, the threshold has to be chosen anew for each."
    )
    return [Section("thresholds", "Does a threshold carry over?", parts, words)]
