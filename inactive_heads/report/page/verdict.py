"""The results in words: the sentences that a reader takes away from a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import LOSS, Metric, MetricName, Tolerances, get_metric
from inactive_heads.analysis.curves.model_comparison import REFERENCE, compare_models, count_ranks
from inactive_heads.analysis.curves.rank_uncertainty import about_to_tell
from inactive_heads.analysis.curves.ranking import reach_column
from inactive_heads.analysis.curves.table import CURVE_KEYS, metric_of
from inactive_heads.analysis.curves.ties import ROUNDING, joined
from inactive_heads.names import RANDOM, is_baseline, score_of_placebo
from inactive_heads.report.answer import Answer
from inactive_heads.report.page.summary_rows import (
    CHANGE,
    most_zeroed,
    tolerance,
    with_reach,
)

Answers = Mapping[str, Answer | None]
"""Model → its answer."""


def verdict(
    summary: pd.DataFrame | None,
    curves: pd.DataFrame | None,
    answers: Answers | None = None,
    within: Tolerances | None = None,
) -> list[str]:
    """Return the results in plain sentences.

    Each model's first text is the answer to what the page asks: how many heads can be zeroed, at
    what cost, by which score. It is about the task that decides most: next-token loss, if it was
    measured, because loss needs fewer items than accuracy. The second says what zeroing the
    model's one set of heads does, and how sure the choice of the score is. The texts on other tasks
    are a sentence or two.

    Args:
        summary: from `summarize`; None if no task was run.
        curves: the curves behind it, for tolerances other than the usual; may be None.
        answers: model → its set of heads.
        within: how much worse still counts as unharmed.

    Returns:
        Two texts for a model's first task and mode, one for each other; a single one if no task was
        run.

    Raises:
        UserError: a curve cannot be ranked.
    """
    if summary is None or summary["rank"].isna().all():
        return [
            "No task was run: this page shows what the heads look like, "
            "not what the model can do without them."
        ]
    several = summary["model"].drop_duplicates().size > 1
    texts = []
    for model, own in summary.groupby("model", sort=False):
        groups = list(own.groupby(CURVE_KEYS, sort=False, dropna=False))
        groups.sort(key=lambda item: metric_of(item[1]) != LOSS)
        for place, (keys, group) in enumerate(groups):
            metric = metric_of(group)
            rows = with_reach(group, curves, keys, metric, within or {})
            words = _Words(rows, metric, within or {}, keys, several)
            if place or words.best is None:
                texts.append(words.other())
            else:
                most = most_zeroed(curves, keys, words.best["score"])
                texts += words.first((answers or {}).get(str(model)), most)
    return texts


def compared(ranking: pd.DataFrame, setting: str, metric: Metric | MetricName) -> str:
    """Return the comparison of several models in plain sentences.

    They say what the reference and the best score of each model find on average, and which score is
    most often first and among the first three.

    Args:
        ranking: from `rank_scores`, of one task and mode and several models.
        setting: the task and mode in words.
        metric: the metric that the ranking is by.

    Returns:
        The sentences as one text.

    Raises:
        UserError: the metric is unknown, or the ranking is of several tasks or modes.
    """
    table, counts = compare_models(ranking), count_ranks(ranking)
    means = table[["reference", "best"]].mean()
    metric = get_metric(metric)
    reach = metric.amount(metric.within_of(reach_column(ranking)))
    known = table.dropna(subset="reference")
    text = f"On {setting}, over {len(table)} models: "
    if len(known) == len(table):
        text += f"{REFERENCE} finds {means['reference']:.2f}% of heads that can be zeroed within "
        text += f"{reach} of the model with every head, the best score of each model "
    else:
        text += f"within {reach} of the model with every head, the best score of each model finds "
    text += f"{means['best']:.2f}%, on average."
    named = counts[~counts["score"].map(is_baseline)]
    if len(named):
        best = named.iloc[0]
        # Mean ranks are of whole numbers: equal ones are equal to the last digit.
        order = ["first", "top_3", "mean_rank"]
        equal = named[(named[order] == best[order]).all(axis=1)]
        has, is_ = ("has", "is") if len(equal) == 1 else ("each have", "are")
        text += (
            f" {joined(list(equal['score']))} {has} the best normalized AUC on {best['first']} of "
            f"{best['models']} models and {is_} among the first three on {best['top_3']}."
        )
    random = counts.loc[counts["score"] == RANDOM, "first"]
    if len(random) and random.iloc[0]:
        text += f" Random is first on {random.iloc[0]}."
    return text


class _Words:
    """The sentences on one model, task and mode.

    Args:
        rows: the rows of the summary, with `with_reach`'s column.
        metric: the metric that they are judged by.
        within: the tolerances asked for.
        keys: model, task and mode.
        several: whether the page has several models, so that each text names its own.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        metric: Metric,
        within: Tolerances,
        keys: tuple[Any, ...],
        several: bool,
    ) -> None:
        self.metric, self.within = metric, within
        self.ranked = rows.sort_values("rank", kind="stable")
        self.best = _first(self.ranked[~self.ranked["score"].map(is_baseline)])
        self.random = _first(rows[rows["score"] == RANDOM])
        baselines = rows[rows["score"].map(is_baseline)]
        self.placebo = _first(baselines[baselines["score"] != RANDOM])
        model, task, mode = (str(key) for key in keys)
        self.task = task
        n = rows["n"].max() if "n" in rows else np.nan
        items = f"{n:.0f} {metric.items}" if np.isfinite(n) else mode
        self.where = f"{model}, {task}, {items}" if several else f"{task}, {items}"
        item = metric.items.removesuffix("s")
        self.each = f" for each {item}" if mode == "per-input" else ""
        self._always = f" on every {item}"

    def first(self, answer: Answer | None, most: float) -> list[str]:
        """The answer (how many heads, at what cost, by which score), and how sure it is."""
        assert self.best is not None
        best, metric = self.best, self.metric
        column = metric.within_column(self.within.get(metric))
        lead = f"{self._how_many(float(best[column]), answer, most)} can be zeroed before "
        lead += f"{metric.subject} {'falls' if metric.higher_is_better else 'rises'} by "
        lead += f"{tolerance(metric, self.within)}, if {best['score']} chooses them{self.each}"
        if self.random is not None and np.isfinite(self.random[column]):
            lead += f"; if chance does, {self.random[column]:.1f}%"
        lead += f" ({self.where})."
        rows = None if answer is None else answer.effects
        measured = None if rows is None else _first(rows[rows["task"] == self.task])
        if answer is None or measured is None:
            share = f"{best['percent_zeroed']:.1f}%"
            text = f"Zeroing the {share} that {best['score']} calls inactive takes "
            text += self._change(best)
        else:
            count = int(answer.heads.sum())
            text = (
                f"Zeroing the same {count} head{'s' * (count != 1)} ({answer.percent:g}%, by {answer.score}, listed "
                f"below){self._always} "
            )
            text += f"takes {self._change(measured)}"
        text += self._random() + "." + self._lead() + self._few() + self._warning()
        return [_minus(lead[0].upper() + lead[1:]), _minus(text)]

    def other(self) -> str:
        """What a task adds that is not the one that decides."""
        if self.best is None:
            return f"{self.where}: only heads chosen at random were zeroed."
        text = f"{self.where}: zeroing the {self.best['percent_zeroed']:.1f}% of heads that "
        text += f"{self.best['score']} calls inactive takes {self._change(self.best)}"
        text += self._random() + "." + self._lead() + self._few() + self._warning()
        return _minus(text)

    def _how_many(self, reach: float, answer: Answer | None, most: float) -> str:
        """The number of heads, its percent and interval: "about 30 of 270 heads (11.2%)".

        Where nothing worse came out at the most heads that were zeroed, it is "at least" that many.
        """
        assert self.best is not None
        if not np.isfinite(reach):
            return "an unknown share of heads"
        all_swept = reach >= most - ROUNDING
        low, high = (float(self.best.get(end, np.nan)) for end in ("within_low", "within_high"))
        usual = self.within.get(self.metric, self.metric.tolerance) == self.metric.tolerance
        sure = (
            f"; 95% interval {low:.1f} to {high:.1f}%" if usual and np.isfinite(low + high) else ""
        )
        if answer is None:
            least = "at least " if all_swept else ""
            return f"{least}{reach:.1f}% of the heads{sure.replace(';', ',')}"
        exist = answer.heads.coords.get("n_heads")
        total = answer.heads.size if exist is None else int(exist.sum())
        about = "at least" if all_swept else "about"
        return f"{about} {reach / 100 * total:.0f} of the {total} heads ({reach:.1f}%{sure})"

    def _change(self, row: pd.Series) -> str:
        """From what to what the metric goes: "the loss from 3.01 to 3.08 nats per token (+0.07)"."""
        metric = self.metric
        name = f"{metric}_change" if f"{metric}_change" in row else "change"
        change, low, high = (float(row.get(one, np.nan)) for one in (name, *CHANGE))
        ends = f"{low:.{metric.digits}f} to {high:.{metric.digits}f}"
        sure = f", 95% interval {ends}" if np.isfinite(low + high) else ""
        before = metric.written(row[metric] - change)
        after = metric.with_unit(row[metric])
        return f"{metric.subject} from {before} to {after} ({metric.signed(change)}{sure})"

    def _random(self) -> str:
        """What zeroing heads at random does: anywhere, and in the layers that a score picks."""
        text = ""
        if self.random is not None:
            share = f"{self.random['percent_zeroed']:.1f}%"
            text += f"; zeroing {share} at random, to {self._end(self.random)}"
        if self.placebo is not None:
            score = score_of_placebo(str(self.placebo["score"]))
            text += f"; as many as {score} zeroes in the same layers, at random, to "
            text += self._end(self.placebo)
        return text

    def _end(self, row: pd.Series) -> str:
        change = self.metric.signed(float(row[f"{self.metric}_change"]))
        return f"{self.metric.written(row[self.metric])} ({change})"

    def _lead(self) -> str:
        """Whether the best score ties, or beats the runner-up; empty where that is not known."""
        assert self.best is not None
        best, ranked = self.best, self.ranked
        first = ranked[(ranked["rank"] == best["rank"]) & ~ranked["score"].map(is_baseline)]
        if len(first) > 1:
            return f" {joined(list(first['score']))} tie: their whole curves are equally good."
        below = ranked.iloc[list(ranked.index).index(best.name) + 1 :]
        if below.empty or not np.isfinite(float(best.get("lead", np.nan))):
            return ""
        after, many = below.iloc[0]["score"], best["n_to_tell"]
        lead = f"The lead of {best['score']} over the runner-up, {after},"
        if best["better_than_next"] is True or best["better_than_next"] == 1:
            return f" {lead} is significant (whole curves, paired 95% interval)."
        untested = np.isnan(best.get("lead_low", np.nan))
        text = f" {lead} is not {'tested' if untested else 'significant'}"
        if not np.isnan(many):
            text += f"; confirming it would take {about_to_tell(many)} {self.metric.items}"
        return text + "."

    def _few(self) -> str:
        """That there are too few items for an interval; empty if there are not."""
        assert self.best is not None
        few = self.best.get("n", np.nan) < self.metric.fewest_items
        unknown = self.best[list(self.metric.bounds)].isna().all()
        return f" 95% intervals are {self.metric.too_few}." if few and unknown else ""

    def _warning(self) -> str:
        if self.best is None or self.random is None:
            return ""
        if self.random["rank"] < self.best["rank"]:
            return " Over its whole curve, Random did better than every score."
        if self.random["rank"] == self.best["rank"]:
            return " Over its whole curve, Random did as well."
        return ""


def _minus(text: str) -> str:
    """The text with true minus signs before numbers."""
    return text.replace("(-", "(−").replace("interval -", "interval −").replace("to -", "to −")


def _first(rows: pd.DataFrame) -> pd.Series | None:
    return None if rows.empty else rows.iloc[0]
