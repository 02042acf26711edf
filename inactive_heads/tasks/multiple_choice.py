"""MMLU and the bundled quiz: questions with four choices.

Prompts are those of lm-evaluation-harness's ``mmlu`` for letters, and ``mmlu_continuation`` for
cloze.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.specs import TaskSpec
from inactive_heads.tasks.base import ChoiceItem, choose_evenly
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.prompt import Prompt
from inactive_heads.tasks.question import Question
from inactive_heads.tasks.reading.question_files import (
    Questions,
    check_once,
    questions_of,
    read_questions,
)
from inactive_heads.tasks.reading.rows import Row
from inactive_heads.third_party import explained


def multiple_choice_task(spec: TaskSpec) -> ChoiceTask:
    """The task "mmlu" or "quiz".

    Args:
        spec: see `load_task`; its ``name`` is one of the two.

    Returns:
        The questions with their prompts.

    Raises:
        UserError: the data are missing, unreadable or lack a field; a subject or the scoring is
            unknown; or a subject has fewer examples than ``num_fewshot``.
    """
    mmlu = spec.name == "mmlu"
    scoring = spec.scoring or ("letter" if mmlu else "cloze")
    shots = (5 if mmlu else 0) if spec.num_fewshot is None else spec.num_fewshot
    found = _questions(spec)
    test = choose_evenly(
        found.test, lambda question: question.subject, spec.subjects, spec.limit, spec.seed
    )
    items = [_ask(question, found.examples(question.subject), shots, scoring) for question in test]
    about = {
        "data": str(spec.data or ("cais/mmlu" if mmlu else "bundled")),
        "num_fewshot": shots,
        "scoring": scoring,
        "limit": spec.limit,
        "subjects": sorted({question.subject for question in test}),
        "seed": spec.seed,
    }
    return ChoiceTask(spec.name, items, scoring, shots, about)  # type: ignore[arg-type]


def _ask(question: Question, examples: Sequence[Question], shots: int, scoring: Any) -> ChoiceItem:
    if not 0 <= shots <= len(examples):
        raise UserError(
            f"{shots} shots were asked for, subject {question.subject!r} has {len(examples)} examples"
        )
    kind = "multiple choice questions" if scoring == "letter" else "questions"
    subject = question.subject.replace("_", " ")
    context = Prompt(
        f"The following are {kind} (with answers) about {subject}.\n\n",
        [(one.prompt(scoring), one.options(scoring)[one.answer]) for one in examples[:shots]],
        question.prompt(scoring),
    )
    continuations = tuple(f" {option}" for option in question.options(scoring))
    return ChoiceItem(question.id, question.subject, context, continuations, question.answer)


def _questions(spec: TaskSpec) -> Questions:
    if spec.data is not None:
        found = read_questions(spec.data)
        if spec.name == "quiz":  # MMLU is asked as it was published: some of it is there twice
            check_once(found)
        return found
    if spec.name == "quiz":
        with as_file(files("inactive_heads").joinpath("data/quiz.jsonl")) as bundled:
            return read_questions(bundled)
    from datasets import load_dataset

    with explained(
        "cais/mmlu could not be loaded from the Hugging Face hub",
        "give a local copy of it with data= (--data FOLDER)",
    ):
        loaded = load_dataset("cais/mmlu", "all")
        rows = [
            Row({**row, "split": split}, f"row {index} of the split {split} of cais/mmlu")
            for split in ("dev", "test")
            for index, row in enumerate(loaded[split])
        ]
    return questions_of(rows, "cais/mmlu")
