"""The results of a sweep: curves, the outcome of every item, and the files they are saved in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from inactive_heads.analysis.csv_table import read_table
from inactive_heads.analysis.curves.metrics import Metric, get_metric
from inactive_heads.analysis.curves.rank_uncertainty import rank_uncertainty
from inactive_heads.analysis.curves.table import metric_of
from inactive_heads.errors import UserError
from inactive_heads.evaluation.outcomes import Outcomes
from inactive_heads.files import write_whole
from inactive_heads.third_party import explained

COLUMNS = (
    "model",
    "task",
    "score",
    "mode",
    "percent",
    "threshold",
    "percent_zeroed",
    "accuracy",
    "ci_low",
    "ci_high",
    "n",
    "loss",
    "loss_low",
    "loss_high",
    "change",
    "change_low",
    "change_high",
    "p_mcnemar",
    "answer_logprob",
    "answer_logprob_change",
    "answer_logprob_change_low",
    "answer_logprob_change_high",
    "kl",
    "kl_low",
    "kl_high",
    "top1_agreement",
    "top1_agreement_low",
    "top1_agreement_high",
)
"""The columns of a sweep's curves; see `sweep`."""

POINT_COLUMNS = ("task", "mode", "score", "percent")
"""The columns that identify the point of a saved item."""

ITEMS = "items.parquet"
"""The file that holds the outcome of every item."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """The results of sweeping one model on one task.

    Attributes:
        curves: one row per score and percent; see `sweep`.
        points: the outcomes of the task's items at every point, by ``(score, percent)``; percent 0
            is the baseline.
        scores: ``(score, sample, layer, head)``, the scores of the task's inputs; None if only
            Random was swept, or if the sweep was read from a folder.
    """

    curves: pd.DataFrame
    points: Mapping[tuple[str, float], Outcomes]
    scores: xr.DataArray | None

    @property
    def metric(self) -> Metric:
        """The metric that the task measures, "accuracy" or "loss"."""
        return get_metric(next(iter(self.points.values())).metric)

    def ranking(self, *, within: float | None = None) -> pd.DataFrame:
        """The scores ranked by their curves, with the uncertainty of the ranks.

        Args:
            within: how much worse still counts as unharmed, in points of accuracy or nats of loss;
                by default 1 point or 0.05 nats.

        Returns:
            One row per score, the best first; see `rank_uncertainty`.

        Raises:
            UserError: the task has a single item, or no percent above 0 was swept.
        """
        one = next(iter(self.points.values()))
        column = self.metric.item_column
        names = list(dict.fromkeys(name for name, _ in self.points))
        percents = sorted({percent for _, percent in self.points})
        values = [
            [self.points[name, percent].items[column].to_numpy(float) for percent in percents]
            for name in names
        ]
        outcomes = xr.DataArray(
            np.array(values),
            dims=("score", "percent", "item"),
            coords={"score": names, "percent": percents},
        )
        return rank_uncertainty(
            self.curves, outcomes, one.weights, metric=self.metric, within=within
        )


def save_items(folder: Path, sweeps: Sequence[Sweep]) -> None:
    """Write the outcome of every item at every point to ``items.parquet``, for `load_sweeps`.

    Args:
        folder: the run folder.
        sweeps: the finished sweeps of the run, one per task.

    Raises:
        UserError: the file cannot be written.
    """
    tables = []
    for found in sweeps:
        task, mode = found.curves["task"].iloc[0], found.curves["mode"].iloc[0]
        for (score, percent), outcomes in found.points.items():
            about = {"task": task, "mode": mode, "score": score, "percent": percent}
            tables.append(outcomes.items.assign(**about))
    whole = pd.concat(tables, ignore_index=True).to_parquet(None, index=False)
    write_whole(folder / ITEMS, whole)


def load_sweeps(folder: str | Path) -> list[Sweep]:
    """The finished sweeps in a folder that `sweep` or a report wrote.

        (found,) = ih.load_sweeps("runs/quiz")
        found.points["AHON (LN)", 10].items

    Args:
        folder: the ``out`` folder of `sweep`, or one model's folder of a report.

    Returns:
        One sweep per task. ``scores`` is not saved, so it is None.

    Raises:
        UserError: the folder holds no finished sweep, or its files are damaged or do not belong
            together.
    """
    path = Path(folder)
    if not (path / ITEMS).is_file():
        raise UserError(f"{str(folder)!r} has no {ITEMS}: no finished sweep is in it")
    with explained(f"the sweep in {str(folder)!r} cannot be read", "run it again in a new folder"):
        curves, items = read_table(path / "curves.csv"), pd.read_parquet(path / ITEMS)
        return [_sweep_of(rows, items) for _, rows in curves.groupby("task", sort=False)]


def _sweep_of(curves: pd.DataFrame, items: pd.DataFrame) -> Sweep:
    metric, points = metric_of(curves), {}
    for row in curves.itertuples():
        here = items.query("task == @row.task and score == @row.score and percent == @row.percent")
        if here.empty:
            raise UserError(
                f"{ITEMS} has no items of {row.score} at {row.percent}% of the task {row.task!r}, which "
                "curves.csv has: the two files are not of one run, or were changed"
            )
        own = here.dropna(axis="columns", how="all").drop(columns=list(POINT_COLUMNS))
        points[row.score, row.percent] = Outcomes(
            own.reset_index(drop=True), metric, row.percent_zeroed
        )
    return Sweep(curves.reset_index(drop=True), points, None)
