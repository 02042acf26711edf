"""Prepares a report: loads the model, texts and tasks, and plans the sweeps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

from inactive_heads.errors import Notice
from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.files import digest_of
from inactive_heads.models.load import load as load_model
from inactive_heads.models.model import Model
from inactive_heads.names import (
    BUNDLED,
    DEFAULT_SCORE,
    RANDOM,
    ROD,
    TEXT_LOSS,
    placebo_of,
    score_of_placebo,
)
from inactive_heads.report.mean_outputs import kept_means, other_texts
from inactive_heads.report.options import ReportOptions, all_scores, our_scores
from inactive_heads.scores.computable import why_not_computable
from inactive_heads.scores.paper import get_scores
from inactive_heads.scores.proposed import read_output_distance
from inactive_heads.scores.registry import Score, get_score
from inactive_heads.specs import TaskSpec
from inactive_heads.sweeps.cost import describe, plan_sweep, seconds_per_token
from inactive_heads.sweeps.grid import Grid, make_grid
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.run_folder import finished_in
from inactive_heads.sweeps.sweep import run_settings
from inactive_heads.tasks.base import Task
from inactive_heads.tasks.bundled_texts import about_texts, kinds_of
from inactive_heads.tasks.load import load as load_task
from inactive_heads.tasks.text_task import TextTask
from inactive_heads.tasks.texts import cut_at_random, cut_to, load_texts

SWEPT_SCORES = ("AHON (LN)", "LTHON (LN)", "AHRN (LN)", "AVVN (LN)", "AEQD", "AWFT", RANDOM)
"""The default scores to ablate by on questions: one of each kind, and Random.

On next-token loss, which is cheaper, the default is all fifteen. This project's own are swept, too.
"""

FEW = 8
"""The number of tokens on which a score is tried, to see whether a model has what it needs."""

SPANS = {BUNDLED: (64, 256), "fineweb-edu": (10, 3000)}
"""The shortest and longest length of randomly cut texts, in tokens; a user's texts are not cut."""

DEFAULT_TEXTS, DEFAULT_QUESTIONS = 10, 30
"""The default numbers of bundled texts and questions: minutes on two cores."""


@dataclass(frozen=True, eq=False)
class PreparedReport:
    """A report's model, texts and tasks, loaded and tokenized.

    Attributes:
        options: the options of the report.
        samples: the texts' token ids.
        drawn: the scores whose heads are shown: the paper's, this project's and the user's.
        means: what takes the place of silenced heads, from `kept_means`; None for zero.
        job: the model and the tasks that it is evaluated on.
        grids: what each task's sweep varies, by the task's name.
    """

    options: ReportOptions
    samples: list[list[int]]
    drawn: list[Score]
    means: xr.DataArray | None
    job: Job
    grids: dict[str, Grid]

    @property
    def scores(self) -> list[str]:
        """The names of the scores whose heads are shown."""
        return [score.name for score in self.drawn]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the report's results, in a form that JSON can represent."""
        scored = {"samples": digest_of(self.samples), "at": self.options.at}
        return run_settings(self.job, self.grids) | scored

    def plan(self, finished: int) -> str:
        """The work to do and the time it takes, in words.

        If something is left to do, a batch is run to measure the speed.

        Args:
            finished: the number of units of work that are already finished.

        Returns:
            A few lines; see `inactive_heads.sweeps.cost.describe`.
        """
        plans = {name: plan_sweep(self.job, name, grid) for name, grid in self.grids.items()}
        left = finished < sum(plan.units for plan in plans.values())
        return describe(plans, seconds_per_token(self.job) if left else 0.0, finished)


def prepare_report(options: ReportOptions) -> PreparedReport:
    """Load the model, texts and tasks of a report.

    Args:
        options: the options of the report.

    Returns:
        The model, texts and tasks, ready to run.

    Raises:
        UserError: the model, a task or the texts cannot be loaded, or an option is invalid.
    """
    texts = _texts(options)
    tasks: list[Task] = [
        load_task(_with_limit(spec)) for spec in options.tasks if spec.name != TEXT_LOSS
    ]
    model = load_model(options.model)
    samples = _samples(options, model, texts)
    if any(spec.name == TEXT_LOSS for spec in options.tasks):
        source = options.texts.source
        kinds = kinds_of(texts, otherwise=source)
        tasks.append(TextTask(TEXT_LOSS, samples, about_texts(source), text_kinds=kinds))
    means = None
    if options.replacement == "mean":
        others = other_texts(options.texts.source, texts, options.seed)
        means = kept_means(model, _samples(options, model, others), options.out)
    made = {} if means is None else {ROD: read_output_distance(means)}
    ours = [made.get(name) or get_score(name) for name in our_scores(options.replacement)]
    lacking = why_not_computable(model, [samples[0][:FEW]], ours)
    for name, reason in lacking.items():
        warnings.warn(f"{name} is left out: {reason}", Notice, stacklevel=2)
    grids = {task.name: _grid(options, model, task, ours, {*lacking}, means) for task in tasks}
    shown = [score for score in ours if score.name not in lacking]
    drawn = [*get_scores(), *shown, *map(get_score, options.own_scores)]
    swept = [*drawn, *(score for grid in grids.values() for score in grid.scored)]
    job = Job(
        model,
        {task.name: PreparedTask.of(model, task) for task in tasks},
        {score.name: score for score in swept},
        options.execution.batch_size,
    )
    return PreparedReport(options, samples, drawn, means, job, grids)


def plan_report(options: ReportOptions) -> str:
    """The work that a report needs and the time it takes, in words; nothing is written.

    Args:
        options: the options of the report.

    Returns:
        A few lines; see `inactive_heads.sweeps.cost.describe`.

    Raises:
        UserError: the model, a task or the texts cannot be loaded, an option is invalid, or the
            folder is in use or holds a report with other settings.
    """
    options.check()
    prepared = prepare_report(options)
    return prepared.plan(finished_in(options.out, prepared.settings))


def _grid(
    options: ReportOptions,
    model: Model,
    task: Task,
    ours: list[Score],
    lacking: set[str],
    means: xr.DataArray | None,
) -> Grid:
    """The sweep of one task: the scores that were asked for, or its default ones."""
    functions = {score.name: score for score in ours}
    on_texts = task.name == TEXT_LOSS
    on_loss = [*all_scores(options.replacement), placebo_of(DEFAULT_SCORE)]
    usual = on_loss if on_texts else [*SWEPT_SCORES, *functions]
    wanted = dict.fromkeys([*(options.scores or usual), *options.own_scores])
    # What the model lacks is left out, unless nothing else was asked for.
    bare = {name: (score_of_placebo(name) or name).removesuffix(" (LN)") for name in wanted}
    names = [name for name in wanted if bare[name] not in lacking] or wanted
    return make_grid(
        model,
        scores=[functions.get(name, name) for name in names],
        percents=options.all_percents,
        mode=options.mode,
        replacement=means,
        shard_tokens=options.execution.shard_tokens,
        seed=options.seed,
    )


def _texts(options: ReportOptions) -> list[str]:
    source, n = options.texts.source, options.texts.num_texts
    if n is None and source == BUNDLED:
        n = DEFAULT_TEXTS
    return load_texts(source, n=n, seed=options.seed)


def _samples(options: ReportOptions, model: Model, texts: list[str]) -> list[list[int]]:
    """The texts' token ids: cut at random as in the paper, a user's texts only on request."""
    shortest, usual = SPANS.get(options.texts.source, (0, None))
    longest = usual if options.texts.max_tokens is None else options.texts.max_tokens
    if usual is None or longest is None:
        return cut_to(model, texts, longest)
    return cut_at_random(
        model, texts, shortest=min(shortest, longest), longest=longest, seed=options.seed
    )


def _with_limit(spec: TaskSpec) -> TaskSpec:
    """The spec, with the default number of bundled questions if it has no limit."""
    bundled_quiz = spec.name == "quiz" and spec.data is None
    return replace(spec, limit=DEFAULT_QUESTIONS) if spec.limit is None and bundled_quiz else spec
