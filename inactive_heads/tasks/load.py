"""Loading a task by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inactive_heads.errors import UserError
from inactive_heads.names import BUNDLED, LM_EVAL, TEXT_LOSS
from inactive_heads.specs import TaskSpec
from inactive_heads.tasks.base import Scoring, Task
from inactive_heads.tasks.bundled_texts import about_texts
from inactive_heads.tasks.lm_eval import lm_eval_task
from inactive_heads.tasks.multiple_choice import multiple_choice_task
from inactive_heads.tasks.text_task import TextTask
from inactive_heads.tasks.texts import load_texts


def load_task(
    name: str,
    *,
    data: str | Path | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    subjects: Sequence[str] | None = None,
    scoring: Scoring | None = None,
    seed: int = 0,
    shots: int | None = None,
) -> Task:
    """A task by name: "mmlu", "quiz" (bundled), "text-loss", or one of lm-evaluation-harness.

        task = ih.load_task("quiz", limit=50)
        task = ih.load_task("mmlu", data="folder/of/cais-mmlu", num_fewshot=5, limit=100)
        task = ih.load_task("lm-eval:piqa", limit=100)

    Args:
        name: "mmlu" is `cais/mmlu`, from the hub or a local copy; "quiz" is general knowledge,
            bundled; "text-loss" is next-token loss on texts; "lm-eval:" and a name is that task
            of lm-evaluation-harness: see `inactive_heads.tasks.lm_eval.lm_eval_task`.
        data: mmlu: a copy of the hub's data set, or the folder of .csv files that was published
            first. quiz: your own questions, a .jsonl, .json, .csv, .tsv, .parquet or .arrow file
            with the bundled file's fields, or a folder. text-loss: a source for `load_texts`.
            lm-eval: a folder of task files. By default, the task's usual data.
        num_fewshot: the number of answered examples in the prompt (the subject's first dev
            questions). By default 5 for mmlu, 0 for quiz, and the number in the task's file for
            lm-eval.
        limit: the number of questions (or texts), chosen at random and spread evenly over the
            subjects (of bundled texts: the kinds); by default all.
        subjects: the subjects to choose from, in any order; by default all.
        scoring: "letter" or "cloze"; by default "letter" for mmlu and "cloze" for quiz. For
            lm-eval, "acc" or "acc_norm"; by default "acc_norm" if the task reports it.
        seed: the seed of the choice of questions or texts.
        shots: another name for ``num_fewshot``.

    Returns:
        A `ChoiceTask`, or a `TextTask` for "text-loss".

    Raises:
        UserError: the name, a subject or the scoring is unknown; the data are missing, unreadable
            or lack a field; the limit or another number is not a whole number or is too small;
            there are fewer examples than ``num_fewshot``; or ``shots`` and ``num_fewshot`` differ.
    """
    if shots is not None:
        if num_fewshot not in (None, shots):
            raise UserError(
                f"shots={shots} and num_fewshot={num_fewshot} mean the same; give one of them"
            )
        num_fewshot = shots
    return load(TaskSpec(name, data, num_fewshot, limit, subjects, scoring, seed))


def as_task(task: Task | str) -> Task:
    """A task, or the one of a name with its usual data and options.

    Args:
        task: a task, or a name that `load_task` takes.

    Returns:
        The task.

    Raises:
        UserError: it is neither; see `load_task`.
    """
    if isinstance(task, str):
        return load(TaskSpec(task))
    if not isinstance(task, Task):
        raise UserError(
            f'a task is needed, not {type(task).__name__}; give load_task("quiz"), or '
            'TextTask("my-texts", texts) for texts of your own'
        )
    return task


def load(spec: TaskSpec) -> Task:
    """The task that a spec describes; see `load_task`.

    Args:
        spec: which task, and how it is asked.

    Returns:
        The task.

    Raises:
        UserError: see `load_task`.
    """
    spec.check()
    if isinstance(spec.subjects, str):
        spec = replace(spec, subjects=[spec.subjects])
    if spec.name == TEXT_LOSS:
        source = spec.data or BUNDLED
        texts = load_texts(source, n=spec.limit, seed=spec.seed)
        about = {**about_texts(source), "limit": spec.limit, "seed": spec.seed}
        return TextTask(spec.name, texts, about)
    return lm_eval_task(spec) if spec.name.startswith(LM_EVAL) else multiple_choice_task(spec)
