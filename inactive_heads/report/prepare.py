"""Prepares a report: loads the model, texts and tasks, and plans the sweeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from inactive_heads.evaluation.prepared_task import PreparedTask
from inactive_heads.files import digest_of
from inactive_heads.models.load import load as load_model
from inactive_heads.models.model import Model
from inactive_heads.names import PAPER_SCORES, RANDOM, TEXT_LOSS
from inactive_heads.report.options import ReportOptions
from inactive_heads.scores.paper import get_scores
from inactive_heads.specs import TaskSpec
from inactive_heads.sweeps.cost import describe, plan_sweep, seconds_per_token
from inactive_heads.sweeps.grid import Grid, make_grid
from inactive_heads.sweeps.job import Job
from inactive_heads.sweeps.sweep import run_settings
from inactive_heads.tasks.base import Task
from inactive_heads.tasks.load import load as load_task
from inactive_heads.tasks.text_task import TextTask
from inactive_heads.tasks.texts import cut_at_random, cut_to, load_texts

SWEPT_SCORES = ("AHON (LN)", "LTHON (LN)", "AHRN (LN)", "AVVN (LN)", "AEQD", "AWFT", RANDOM)
"""The default scores to ablate by on questions: one of each kind, and Random.

On next-token loss, which is cheaper, the default is all fifteen.
"""

SPANS = {"bundled": (64, 256), "fineweb-edu": (10, 3000)}
"""The shortest and longest length of randomly cut texts, in tokens; a user's texts are not cut."""

DEFAULT_TEXTS, DEFAULT_QUESTIONS = 10, 30
"""The default numbers of bundled texts and questions: minutes on two cores."""


@dataclass(frozen=True, eq=False)
class PreparedReport:
    """A report's model, texts and tasks, loaded and tokenized.

    Attributes:
        options: the options of the report.
        samples: the texts' token ids.
        job: the model and the tasks that it is evaluated on.
        grids: what each task's sweep varies, by the task's name.
    """

    options: ReportOptions
    samples: list[list[int]]
    job: Job
    grids: dict[str, Grid]

    @property
    def scores(self) -> list[str]:
        """The names of the scores whose heads are shown: the paper's and the user's."""
        return drawn_scores(self.options)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the report's results, in a form that JSON can represent."""
        scored = {"samples": digest_of(self.samples), "at": self.options.at}
        return run_settings(self.job, self.grids) | scored

    def plan(self, finished: int) -> str:
        """The work to do and the time it takes, in words. Runs a batch to measure the speed.

        Args:
            finished: the number of units of work that are already finished.

        Returns:
            A few lines; see `inactive_heads.sweeps.cost.describe`.
        """
        plans = {name: plan_sweep(self.job, name, grid) for name, grid in self.grids.items()}
        return describe(plans, seconds_per_token(self.job), finished)


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
        tasks.append(TextTask(TEXT_LOSS, samples, {"texts": options.texts.source}))
    grids = {task.name: _grid(options, model, task) for task in tasks}
    swept = [
        *get_scores(drawn_scores(options)),
        *(score for grid in grids.values() for score in grid.scores),
    ]
    job = Job(
        model,
        {task.name: PreparedTask.of(model, task) for task in tasks},
        {score.name: score for score in swept},
        options.execution.batch_size,
    )
    return PreparedReport(options, samples, job, grids)


def plan_report(options: ReportOptions) -> str:
    """The work that a report needs and the time it takes, in words.

    Args:
        options: the options of the report.

    Returns:
        A few lines; see `inactive_heads.sweeps.cost.describe`.

    Raises:
        UserError: the model, a task or the texts cannot be loaded, or an option is invalid.
    """
    options.check()
    return prepare_report(options).plan(0)


def drawn_scores(options: ReportOptions) -> list[str]:
    """The names of the scores whose heads a report shows: the paper's and the user's.

    Args:
        options: the options of the report.
    """
    return list(dict.fromkeys([*PAPER_SCORES, *options.own_scores]))


def _grid(options: ReportOptions, model: Model, task: Task) -> Grid:
    usual = (*PAPER_SCORES, RANDOM) if task.name == TEXT_LOSS else SWEPT_SCORES
    return make_grid(
        model,
        scores=dict.fromkeys([*(options.scores or usual), *options.own_scores]),
        percents=options.all_percents,
        mode=options.mode,
        shard_tokens=options.execution.shard_tokens,
        seed=options.seed,
    )


def _texts(options: ReportOptions) -> list[str]:
    source, n = options.texts.source, options.texts.num_texts
    if n is None and source == "bundled":
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
