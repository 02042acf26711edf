"""The options of a report, and the options of each model if there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from inactive_heads.checks import check_mode, check_percents, check_replacement, check_score_names
from inactive_heads.errors import UserError
from inactive_heads.files import check_writable, file_name
from inactive_heads.models.weights.source import check_source
from inactive_heads.names import PAPER_SCORES, RANDOM, REPORT_PERCENTS, ROD, TEXT_LOSS
from inactive_heads.specs import ExecutionSpec, ModelSpec, TaskSpec, TextsSpec
from inactive_heads.tasks.reading.sources import check_data, check_texts

DEFAULT_TASKS = (TaskSpec("quiz"), TaskSpec(TEXT_LOSS))


@dataclass(frozen=True)
class ReportOptions:
    """The options of a report on one model.

    Attributes:
        model: which model, and how it is loaded.
        out: the folder to write.
        texts: the texts that heads are scored on.
        tasks: the tasks that ablations are evaluated on.
        scores: the scores to ablate by: baselines, and names of scores that come with the package or
            are in ``own_scores``; None for a default set for each task.
        own_scores: scores from the user's files: swept, shown, and compared with the paper's best.
        percents: the percents of heads to zero; by default `REPORT_PERCENTS`.
        at: the percent of heads that tables and marks show.
        within: by metric, how much worse still counts as unharmed; by default 1 point of accuracy
            and 0.05 nats of loss.
        mode: "per-input" or "fixed".
        replacement: what takes the place of a silenced head's output: "zero", or "mean", its mean
            over texts of the same source that are not scored.
        called: the model's name in the page; None for its own.
        checkpoint: the checkpoint's name, if the model is one of several checkpoints in a folder.
        execution: where the work is done.
        seed: the seed of texts, questions and Random.
    """

    model: ModelSpec = ModelSpec()
    out: str = "report"
    texts: TextsSpec = TextsSpec()
    tasks: Sequence[TaskSpec] = DEFAULT_TASKS
    scores: Sequence[str] | None = None
    own_scores: Sequence[str] = ()
    percents: Sequence[float] = REPORT_PERCENTS
    at: float = 10.0
    within: Mapping[Any, float] = field(default_factory=dict)
    mode: str = "per-input"
    replacement: str = "zero"
    called: str | None = None
    checkpoint: str | None = None
    execution: ExecutionSpec = ExecutionSpec()
    seed: int = 0

    @property
    def all_percents(self) -> list[float]:
        """The percents of heads to zero, ascending: 0, ``percents`` and ``at``.

        Raises:
            UserError: one is not between 0 and 100, or is given twice.
        """
        return check_percents({0.0, self.at, *check_percents(self.percents)})

    @property
    def asked(self) -> dict[str, Any]:
        """The options by their names on the command line, for a report's ``config.json``."""
        own = {
            name: value
            for name, value in vars(self).items()
            if name not in ("model", "texts", "tasks", "execution")
        }
        model, texts = asdict(self.model), asdict(self.texts)
        task = asdict(self.tasks[0]) if self.tasks else {}
        named = {"model": model.pop("source"), "texts": texts.pop("source")}
        names = {"tasks": [one.name for one in self.tasks]}
        task.pop("name", None)
        return {**named, **names, **task, **texts, **model, **asdict(self.execution), **own}

    def check(self) -> None:
        """Check the options, as far as that is possible without a model.

        Raises:
            UserError: there is no task, or one is given twice; a name or number is invalid; a file
                of texts, questions or the model is not there; or the folder cannot be written.
        """
        names = [task.name for task in self.tasks]
        if not names:
            raise UserError("no task was asked for; there are: mmlu, quiz, text-loss, lm-eval:TASK")
        for task in self.tasks:
            if names.count(task.name) > 1:
                raise UserError(f"task {task.name!r} was asked for twice")
            task.check()
            if task.name != TEXT_LOSS:  # that is of the report's own texts
                check_data(task)
        check_mode(self.mode)
        check_replacement(self.replacement, self.scores or ())
        if self.scores is not None:
            check_score_names(self.scores, [*self.own_scores, ROD])
        _ = self.all_percents
        for spec in (self.texts, self.model, self.execution):
            spec.check()
        check_texts(self.texts.source)
        check_source(self.model.source)
        check_writable(self.out)


def all_scores(replacement: str) -> list[str]:
    """The scores to ablate by on next-token loss, if none are asked for.

    Args:
        replacement: what takes the place of a silenced head's output, "zero" or "mean".

    Returns:
        The names of the paper's fifteen, this project's and Random.
    """
    return [*PAPER_SCORES, *our_scores(replacement), RANDOM]


def our_scores(replacement: str) -> list[str]:
    """This project's scores that a report shows beside the paper's.

    Args:
        replacement: what takes the place of a silenced head's output, "zero" or "mean".

    Returns:
        Their names.
    """
    return ["RON", ROD] if replacement == "mean" else ["RON"]


def compared(
    asked: ReportOptions, models: Sequence[str | None], revisions: Sequence[str | None]
) -> list[ReportOptions]:
    """The same report for every model and revision.

    Args:
        asked: the options for all of them.
        models: names or folders; None is the bundled model.
        revisions: branches, tags or commits, or names of folders in a model's folder; None is the
            default revision.

    Returns:
        The options of each pair; if there are several, each has its own folder in ``asked.out``.

    Raises:
        UserError: a pair of model and revision is given twice.
    """
    pairs = [(model, revision) for model in models for revision in revisions]
    if len(pairs) == 1:
        return [_of_model(asked, *pairs[0])]
    names = ["@".join(filter(None, pair)) or "bundled" for pair in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{twice[0]!r} was given twice; compare a model with others")
    return [
        replace(_of_model(asked, *pair), out=str(Path(asked.out) / file_name(name)))
        for pair, name in zip(pairs, names, strict=True)
    ]


def _of_model(asked: ReportOptions, model: str | None, revision: str | None) -> ReportOptions:
    """The report for one model: for a checkpoint, if its folder holds one named ``revision``."""
    if model is not None and revision is not None and (Path(model) / revision).is_dir():
        spec = replace(asked.model, source=str(Path(model) / revision))
        return replace(asked, model=spec, called=Path(model).resolve().name, checkpoint=revision)
    return replace(asked, model=replace(asked.model, source=model, revision=revision))
