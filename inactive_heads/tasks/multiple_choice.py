"""MMLU and the bundled quiz: questions with four choices.

Prompts are those of lm-evaluation-harness's ``mmlu`` for letters, and ``mmlu_continuation`` for
cloze.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from inactive_heads.errors import UserError
from inactive_heads.specs import TaskSpec
from inactive_heads.tasks.base import ChoiceItem, Scoring, choose_evenly
from inactive_heads.tasks.choice_task import ChoiceTask
from inactive_heads.tasks.prompt import Prompt

LETTERS = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Question:
    """A question with four choices.

    Attributes:
        id: identifies the question in results.
        subject: the question's subject.
        question: the question's text.
        choices: the four choices' texts.
        answer: the index of the right choice.
    """

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int

    def prompt(self, scoring: Scoring) -> str:
        """The question as it stands in a prompt, up to and including "Answer:".

        Args:
            scoring: "cloze" leaves out the choices; "letter" lists them with their letters.

        Returns:
            The text, without a space at the end.
        """
        text = self.question.strip()
        if scoring == "cloze":
            return f"Question: {text}\nAnswer:"
        lines = [
            f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True)
        ]
        return "\n".join([text, *lines, "Answer:"])

    def options(self, scoring: Scoring) -> tuple[str, ...]:
        """The possible answers to the prompt.

        Args:
            scoring: "letter" for the letters, "cloze" for the choices' texts.
        """
        return LETTERS if scoring == "letter" else self.choices


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
    if scoring not in ("letter", "cloze"):
        raise UserError(f"scoring must be letter or cloze, not {scoring!r}")
    shots = (5 if mmlu else 0) if spec.num_fewshot is None else spec.num_fewshot
    dev, test = _mmlu(spec.data) if mmlu else _quiz(spec.data)
    test = choose_evenly(
        test, lambda question: question.subject, spec.subjects, spec.limit, spec.seed
    )
    items = [_ask(question, dev.get(question.subject, []), shots, scoring) for question in test]
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


def _quiz(data: str | Path | None) -> tuple[dict[str, list[Question]], list[Question]]:
    if data is None:
        text = files("inactive_heads").joinpath("data/quiz.jsonl").read_text("utf-8")
    else:
        try:
            text = Path(data).read_text("utf-8")
        except OSError as error:
            raise UserError(
                f"the questions {str(data)!r} cannot be read: {error.strerror}"
            ) from error
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{data} is not a file of JSON lines: {error}") from error
    return _split(rows, str(data or "the bundled quiz"))


def _mmlu(data: str | Path | None) -> tuple[dict[str, list[Question]], list[Question]]:
    from datasets import load_dataset

    if data is None:
        try:
            loaded = load_dataset("cais/mmlu", "all")
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"cais/mmlu could not be loaded from the Hugging Face hub ({type(error).__name__}); "
                "give a local copy of it with data= (--data FOLDER)"
            ) from error
        sources = {"dev": loaded["dev"], "test": loaded["test"]}
    else:
        sources = {}
        for split in ("dev", "test"):
            parts = sorted(str(file) for file in Path(data).rglob(f"{split}-*.parquet"))
            if not parts:
                raise UserError(
                    f"{str(data)!r} has no {split}-*.parquet: it must be a copy of the hub's "
                    "cais/mmlu, config all"
                )
            sources[split] = load_dataset("parquet", data_files=parts, split="train")
    rows: list[dict[str, Any]] = []
    for split, dataset in sources.items():
        rows += [dict(row, split=split) for row in dataset]
    return _split(rows, f"the MMLU data {data or ''}".strip())


def _split(rows: Iterable[Any], source: str) -> tuple[dict[str, list[Question]], list[Question]]:
    """The few-shot examples by subject, and the questions to ask."""
    dev: dict[str, list[Question]] = {}
    test: list[Question] = []
    for index, row in enumerate(rows):
        question = _question(row, index, source)
        if row["split"] == "dev":
            dev.setdefault(question.subject, []).append(question)
        else:
            test.append(question)
    if not test:
        raise UserError(f"{source} has no question of the split test")
    return dev, test


def _question(row: Any, index: int, source: str) -> Question:
    needed = ("subject", "split", "question", "choices", "answer")
    if not isinstance(row, dict) or (missing := [key for key in needed if key not in row]):
        lacks = "is not an object" if not isinstance(row, dict) else f"lacks {', '.join(missing)}"
        raise UserError(f"row {index} of {source} {lacks}; it needs {', '.join(needed)}")
    choices, answer = tuple(map(str, row["choices"])), row["answer"]
    if len(choices) != len(LETTERS) or answer not in range(len(LETTERS)):
        raise UserError(
            f"row {index} of {source} has {len(choices)} choices and the answer {answer!r}; "
            "it needs four choices and an answer from 0 to 3"
        )
    name = str(row.get("id", f"{row['subject']}-{row['split']}-{index}"))
    return Question(name, str(row["subject"]), str(row["question"]), choices, int(answer))
