"""The sections that compare models by their curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from inactive_heads import plots
from inactive_heads.analysis.curves.metrics import Metric, Tolerances
from inactive_heads.analysis.curves.model_comparison import (
    REFERENCE,
    compare_models,
    count_ranks,
    rank_correlations,
    rank_table,
    top_overlap,
)
from inactive_heads.analysis.curves.ranking import ranked
from inactive_heads.analysis.curves.table import metrics_of
from inactive_heads.report.page.parts import Chart, Section, Table, frame_table, square_table
from inactive_heads.report.page.summary_rows import tolerance


@dataclass(frozen=True)
class Setting:
    """The curves of all models on one task in one mode, and their ranking.

    Attributes:
        task: the name of the task.
        mode: "per-input" or "fixed".
        metric: the metric that the ranking is by.
        curves: the rows of models that have values of the metric.
        ranking: from `rank_scores`, models in the order of the curves.
    """

    task: str
    mode: str
    metric: Metric
    curves: pd.DataFrame
    ranking: pd.DataFrame

    @property
    def title(self) -> str:
        """The name of the setting on the page."""
        return f"{self.task}, {self.mode}"

    @property
    def n_models(self) -> int:
        """The number of models that are compared."""
        return int(self.ranking["model"].nunique())


def settings(curves: pd.DataFrame | None, within: Tolerances) -> list[Setting]:
    """Return the settings of a table of curves, in order of appearance.

    Args:
        curves: the curves of all models; None gives no settings.
        within: the tolerances of the rankings.

    Returns:
        One setting per task, mode and metric that has values.

    Raises:
        UserError: a curve cannot be ranked.
    """
    if curves is None:
        return []
    found = []
    for (task, mode), group in curves.groupby(["task", "mode"], sort=False, dropna=False):
        for metric in metrics_of(group):
            # Models without values of this metric are left out of the ranking and the grid.
            own = group[group.groupby("model")[metric].transform("count") > 0]
            ranking = ranked(own, metric=metric, within=within.get(metric))
            # Keep models in the given order instead of sorting them by name.
            places = {model: i for i, model in enumerate(dict.fromkeys(own["model"]))}
            ranking = ranking.sort_values(
                "model", key=lambda names: names.map(places), kind="stable", ignore_index=True
            )
            found.append(Setting(str(task), str(mode), metric, own, ranking))
    return found


def comparison(found: Sequence[Setting], within: Tolerances) -> list[Section]:
    """Return the sections that compare the models of each setting that has several.

    Args:
        found: from `settings`.
        within: the tolerances of the rankings.

    Returns:
        Four sections (gains, ranks, agreement, grid of curves); none if no setting has several
        models.
    """
    several = [setting for setting in found if setting.n_models > 1]
    if not several:
        return []
    reach = tolerance(several[0].metric, within)
    return [
        Section(
            "models",
            f"What {REFERENCE} and the best score find",
            [part for setting in several for part in _models(setting, within)],
            f"A score is good if many of the heads it calls inactive can be zeroed before the "
            f"result is worse by more than the tolerance ({reach} unless a title says another). "
            f"“Gain” is what the best score finds beyond {REFERENCE}, the attention paid to the "
            "first token, in percentage points of heads. The best of many scores was picked on "
            "these very curves, and so looks a little better than it is.",
        ),
        Section(
            "ranks",
            "Which score is best, over all models",
            [part for setting in several for part in _ranks(setting, within)],
            "A score’s rank on a model is by normalized AUC, the average height of its curve; 1 is "
            "the best, and dark. Random takes part: a score below it is worse than chance.",
        ),
        Section(
            "agreement",
            "Do models agree on which scores are good?",
            [part for setting in several for part in _agreement(setting)],
            "Spearman’s correlation compares the whole order of two models’ scores by normalized "
            "AUC (1: the same, 0: unrelated, −1: reversed), the overlap only the five best of "
            "each (intersection over union). Random is left out. Light is alike.",
        ),
        Section(
            "grid",
            "The curves of every model",
            [_grid(setting) for setting in several],
            "One panel a model, one line a score, as in the charts of single models: further right "
            "more heads are zeroed, the dotted line is the model with every head. Each panel has "
            "its own scale. The best score of a panel and Random are drawn strong. Press a name to "
            "see that score alone in every panel.",
        ),
    ]


def _models(setting: Setting, within: Tolerances) -> Iterator[Table | Chart]:
    table, reach = compare_models(setting.ranking), tolerance(setting.metric, within)
    title = f"{setting.title}: % of heads zeroable within {reach}"
    yield Chart(title, plots.model_gains(table), wide=True)
    columns = {
        "model": ("model", ""),
        "reference": (f"{REFERENCE}, %", ".2f"),
        "best": ("best score, %", ".2f"),
        "gain": ("gain", ".2f"),
        "best_score": ("best score", ""),
        "top_score": ("first by AUC", ""),
    }
    means = table[["reference", "best", "gain"]].mean()
    note = (
        f"On average over {len(table)} models: {REFERENCE} {means['reference']:.2f}%, "
        f"best score {means['best']:.2f}%, gain {means['gain']:.2f}"
    )
    yield frame_table(
        f"{title}, in numbers", table, columns, note=note.replace("nan%", "not known")
    )


def _ranks(setting: Setting, within: Tolerances) -> Iterator[Table | Chart]:
    reach = setting.metric.within_column(within.get(setting.metric))
    unit = setting.metric.unit.removesuffix(" per token")
    columns = {
        "score": ("score", ""),
        "models": ("models", ".0f"),
        "first": ("first", ".0f"),
        "top_3": ("in the top 3", ".0f"),
        "mean_rank": ("mean rank", ".2f"),
        "mean_normalized_auc": (f"mean AUC, {unit}", ".2f"),
        f"mean_{reach}": (f"mean % zeroable within {tolerance(setting.metric, within)}", ".2f"),
    }
    yield Chart(
        f"{setting.title}: rank of every score", plots.rank_heatmap(rank_table(setting.ranking))
    )
    yield frame_table(f"{setting.title}: how often first", count_ranks(setting.ranking), columns)
    every = {
        "model": ("model", ""),
        "score": ("score", ""),
        "rank": ("rank", ".0f"),
        "normalized_auc": ("normalized AUC", ".2f"),
        reach: (f"% zeroable within {tolerance(setting.metric, within)}", ".2f"),
    }
    title = f"{setting.title}: every score of every model"
    yield frame_table(title, setting.ranking, every, folded=True)


def _agreement(setting: Setting) -> Iterator[Table | Chart]:
    parts = [
        ("Spearman’s correlation of rankings", rank_correlations(setting.ranking)),
        ("overlap of the five best", top_overlap(setting.ranking)),
    ]
    for words, table in parts:
        title = f"{setting.title}: {words}"
        low = min(0.0, float(table.min(axis=None)))
        yield Chart(title, plots.agreement_heatmap(table, low=low), wide=True)
        yield square_table(title, table)


def _grid(setting: Setting) -> Chart:
    title = f"{setting.title}: {setting.metric} against heads zeroed"
    return Chart(title, plots.curve_grid(setting.curves, setting.metric), wide=True)
