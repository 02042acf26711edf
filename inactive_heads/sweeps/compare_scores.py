"""A user's scores compared with built-in ones, item by item."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from inactive_heads import plots
from inactive_heads.analysis.curves.metrics import ACCURACY, Metric
from inactive_heads.analysis.curves.table import read_curves
from inactive_heads.errors import UserError
from inactive_heads.models.load import as_model, load_model
from inactive_heads.models.model import Model
from inactive_heads.names import BUNDLED, RANDOM, is_baseline
from inactive_heads.scores.registry import ScoreLike, get_score, listed_scores
from inactive_heads.sweeps.head_to_head import lead_over, standing
from inactive_heads.sweeps.results import load_sweeps
from inactive_heads.sweeps.sweep import sweep
from inactive_heads.tasks.base import Task
from inactive_heads.tasks.bundled_texts import about_texts, kinds_of
from inactive_heads.tasks.load import as_task
from inactive_heads.tasks.text_task import TextTask
from inactive_heads.tasks.texts import cut_at_random, load_texts

AGAINST: tuple[str, ...] = ("AHON (LN)", "LTHON (LN)", "AWFT", RANDOM)
"""The paper's most successful score, a second on head outputs, one on attention, and chance."""

TEXTS, SHORTEST, LONGEST = 16, 64, 128
"""The number of bundled texts and the range of their lengths in tokens: minutes on two cores."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of `compare_scores`; printing it puts it in words.

    Attributes:
        table: one row per score and percent of heads, the user's scores first: what zeroing does to
            the model, and how that compares with the reference; see `compare_scores`.
        ranking: the scores by their whole curves, the best first; see `rank_uncertainty`.
        curves: from `sweep`.
        reference: the score that others are compared with.
        metric: "loss" (nats per token) or "accuracy" (points).
        standing: the ranks of the scores among published ones, from
            `inactive_heads.sweeps.head_to_head.standing`; None if not asked for.
    """

    table: pd.DataFrame
    ranking: pd.DataFrame
    curves: pd.DataFrame
    reference: str
    metric: Metric
    standing: pd.DataFrame | None

    def figure(self) -> go.Figure:
        """Return the figure of the curves; the user's best score is highlighted.

        Returns:
            A plotly figure, from `plots.accuracy_curves`.
        """
        own = set(self.table.loc[self.table["own"], "score"])
        best = next(name for name in self.ranking["score"] if name in own)
        return plots.accuracy_curves(self.curves, self.metric, highlight=best)

    def __repr__(self) -> str:
        first = self.curves.iloc[0]
        metric, digits = self.metric, self.metric.digits
        n, unit = f"{first['n']:.0f} {metric.items}", metric.change_unit
        lines = [f"{first['model']}, {first['task']} ({n}), in {unit}:"]
        own = self.table[self.table["own"] & (self.table["score"] != self.reference)]
        for row in own.itertuples():
            ends = f"[{row.difference_low:+.{digits}f}, {row.difference_high:+.{digits}f}]"
            if pd.isna(row.difference_low):
                ends = f"(95% interval {metric.too_few})"
            lines.append(
                f"  {row.score}: zeroing {row.percent_zeroed:.1f}% of heads changes {metric.subject} by "
                f"{row.change:+.{digits}f}; at {row.compared_at:.1f}%, "
                f"{row.difference:+.{digits}f} {ends} against {self.reference}: {row.verdict}"
            )
        order = ", ".join(f"{row.rank}. {row.score}" for row in self.ranking.itertuples())
        return "\n".join([*lines, f"  by the whole curve: {order}", *self._among_published()])

    def _among_published(self) -> list[str]:
        if self.standing is None:
            return []
        lines = ["  among published scores of other models (no result on those models):"]
        for score in self.table.loc[self.table["own"], "score"].unique():
            rows = self.standing[self.standing["score"] == score]
            best, worst = rows["would_rank"].min(), rows["would_rank"].max()
            ranks = f"{best}" if best == worst else f"{best} to {worst}"
            lines.append(
                f"    {score}: a gain of {rows['gain'].iloc[0]:+.2f} points would rank {ranks} of "
                f"{rows['out_of'].max()}, over {len(rows)} models"
            )
        return lines


def compare_scores(
    scores: ScoreLike | Sequence[ScoreLike],
    *,
    model: Any = None,
    task: Task | str | None = None,
    against: ScoreLike | Sequence[ScoreLike] = AGAINST,
    percents: float | Iterable[Any] = (10, 20),
    replacement: xr.DataArray | None = None,
    published: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    batch_size: int | str = "auto",
    progress: bool = True,
) -> Comparison:
    """Return a comparison of a user's scores with built-in ones, item by item.

        found = ih.compare_scores([my_score, ih.layer_normalized(my_score)])
        print(found)  # better, worse or not decided
        found.table, found.figure()

    Every score zeroes heads per input, at the threshold for each percent, and the model is
    evaluated on the task. All scores are evaluated on the same items, so differences are paired.
    Intervals are not corrected for the number of scores and percents that are tried.

    Args:
        scores: the user's scores: names, functions, or callable objects.
        model: from `load_model`, a TransformerBridge or a HookedTransformer; by default the bundled
            model.
        task: from `load_task`, or its name, or a `TextTask`; by default next-token loss on 16
            bundled texts, which tells scores apart with fewer items than answers do.
        against: the scores to compare with; the first is the reference.
        percents: the percents of heads to zero.
        replacement: what replaces the output of ablated heads, zero by default; see `sweep`.
        published: a file for `read_curves`. The result then also ranks the scores among the
            published ones (``standing``), which needs a task of questions.
        out: a folder that keeps finished work, as in `sweep`; a temporary one by default.
        seed: the seed of the bundled texts and of baselines.
        batch_size: the number of inputs run together, or "auto".
        progress: whether to show progress on a terminal.

    Returns:
        A `Comparison`. Its ``table`` has the columns score; own, whether it is one of ``scores``;
        percent; percent_zeroed; loss or accuracy; change, from the unablated model, with its paired
        95% interval change_low to change_high; and compared_at, difference, difference_low,
        difference_high and verdict, from `inactive_heads.sweeps.head_to_head.lead_over`. The
        reference itself has NaN there, and the verdict "the reference".

    Raises:
        UserError: there is no score, or nothing to compare with; ``published`` is given with a task
            of texts, or has no accuracies; or `sweep` raises one.
    """
    own, others = (
        [_name_or_score(one) for one in listed_scores(group)] for group in (scores, against)
    )
    if not own or not others:
        raise UserError("give at least one score, and at least one to compare it with")
    task = None if task is None else as_task(task)
    if published is not None and (task is None or task.metric != ACCURACY):
        raise UserError(
            "published curves are of accuracy: give a task of questions to stand among them, such "
            'as load_task("mmlu", data=…)'
        )
    theirs = None if published is None else read_curves(published)
    names = [_name(one) for one in own]
    swept = [*own, *(one for one in others if _name(one) not in names)]
    subject = load_model() if model is None else as_model(model)
    asked = _texts(subject, seed) if task is None else task
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out
        curves = sweep(
            subject,
            asked,
            scores=swept,
            percents=percents,
            replacement=replacement,
            out=folder,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
        (found,) = load_sweeps(folder)
    reference = _name(others[0])
    swept_at = sorted({float(percent) for percent in curves["percent"]} - {0.0})
    compared = [name for name in map(_name, swept) if name != reference]
    leads = lead_over(found, compared, reference, swept_at)
    kept = ["score", "percent", "percent_zeroed", found.metric]
    kept += ["change", "change_low", "change_high"]
    table = curves.loc[curves["percent"] > 0, kept].merge(
        leads, on=["score", "percent"], how="left"
    )
    table["verdict"] = table["verdict"].fillna("the reference")
    table.insert(1, "own", table["score"].isin(names))
    return Comparison(
        table,
        found.ranking(),
        curves,
        reference,
        found.metric,
        None if theirs is None else standing(curves, theirs),
    )


def _texts(model: Model, seed: int) -> TextTask:
    texts = load_texts(n=TEXTS, seed=seed)
    samples = cut_at_random(model, texts, shortest=SHORTEST, longest=LONGEST, seed=seed)
    kinds = kinds_of(texts, otherwise=BUNDLED)
    return TextTask("text-loss", samples, about_texts(BUNDLED), text_kinds=kinds)


def _name_or_score(score: ScoreLike) -> ScoreLike:
    return score if is_baseline(score) else get_score(score)


def _name(score: ScoreLike) -> str:
    return score if isinstance(score, str) and is_baseline(score) else get_score(score).name
