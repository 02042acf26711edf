"""What an ablation is judged by: multiple-choice questions, or next-token loss on texts.

Prompts are lm-evaluation-harness's: ``mmlu`` for letters, ``mmlu_continuation`` for cloze.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from inactive_heads.analysis.curves.table import Metric
from inactive_heads.errors import UserError
from inactive_heads.models.chat_template import Prompt
from inactive_heads.tasks.texts import load_texts

LETTERS = ("A", "B", "C", "D")
Scoring = Literal["letter", "cloze", "acc", "acc_norm"]


@dataclass(frozen=True)
class Question:
    """A four-choice question; ``answer`` is the index of the right choice."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int

    def prompt(self, scoring: Scoring) -> str:
        """The question up to and with "Answer:"."""
        text = self.question.strip()
        if scoring == "cloze":
            return f"Question: {text}\nAnswer:"
        lines = [
            f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=True)
        ]
        return "\n".join([text, *lines, "Answer:"])

    def options(self, scoring: Scoring) -> tuple[str, ...]:
        """What may answer the prompt: the letters, or the choices' texts."""
        return LETTERS if scoring == "letter" else self.choices


@dataclass(frozen=True)
class ChoiceItem:
    """One question as it is asked: the context, what may follow it, and which is right.

    A context that is a `Prompt` is written by the model's chat template, if it is to use one; any
    other text is asked as it is. Contexts are several, one for each continuation, where it is in
    them that the choices differ (Winogrande). ``lengths`` are what a log-probability is divided by
    to be normalized; if not given, those of the continuations, in characters.
    """

    id: str
    subject: str
    context: str | tuple[str, ...]
    continuations: tuple[str, ...]
    answer: int
    lengths: tuple[int, ...] = ()

    @property
    def contexts(self) -> tuple[str, ...]:
        """What stands before each continuation."""
        several = isinstance(self.context, tuple)
        return self.context if several else (self.context,) * len(self.continuations)  # type: ignore[return-value]


@dataclass(frozen=True)
class ChoiceTask:
    """Questions answered by the log-probability of what may follow the prompt.

    ``letter``: the arg max over " A" to " D". ``cloze``: the choices' texts, their
    log-probability divided by their length in characters. ``acc`` and ``acc_norm``: the same two
    judgements of what a task of lm-evaluation-harness has for choices. Accuracy is over all
    questions.
    """

    name: str
    items: Sequence[ChoiceItem]
    scoring: Scoring
    num_fewshot: int
    about: dict[str, Any] = field(default_factory=dict)
    metric: ClassVar[Metric] = "accuracy"

    @property
    def normalized(self) -> bool:
        """Whether log-probabilities are divided by the length of what they are of."""
        return self.scoring in ("cloze", "acc_norm")


@dataclass(frozen=True)
class TextTask:
    """Next-token loss on texts, in nats per token: lists of token ids, or texts."""

    name: str
    samples: Sequence[str | Sequence[int]]
    about: dict[str, Any] = field(default_factory=dict)
    metric: ClassVar[Metric] = "loss"


Task = ChoiceTask | TextTask


def load_task(
    name: str,
    *,
    data: str | Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    subjects: Sequence[str] | None = None,
    scoring: str | None = None,
    seed: int = 0,
) -> Task:
    """A task by name: "mmlu", "quiz" (bundled), "text-loss", or one of lm-evaluation-harness.

        task = ih.load_task("quiz", limit=50)
        task = ih.load_task("mmlu", data="folder/of/cais-mmlu", shots=5, limit=100)
        task = ih.load_task("lm-eval:piqa", limit=100)

    Args:
        name: "mmlu" is `cais/mmlu`, from the hub or a local copy; "quiz" is general knowledge,
            bundled; "text-loss" is next-token loss on texts; "lm-eval:" and a name is that task
            of lm-evaluation-harness: see `inactive_heads.tasks.lm_eval.harness_task`.
        data: mmlu: a folder in the layout of the hub's data set. quiz: a .jsonl file of one's
            own questions, with the bundled file's fields. text-loss: as for `load_texts`.
        shots: answered examples in the prompt (the subject's first dev questions); 5 for mmlu,
            0 for quiz, what its file says for a task of the harness, if not given.
        limit: how many questions (or texts), spread over the subjects, chosen by ``seed``.
        subjects: only these.
        scoring: "letter" or "cloze"; if not given "letter" for mmlu, "cloze" for quiz. A task of
            the harness: "acc" or "acc_norm".

    Raises:
        UserError: an unknown name, data that are missing or lack a column, a limit below 1,
            more shots than there are examples, an unknown subject.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    if name == "text-loss":
        source = data or "bundled"
        texts = load_texts(source, n=limit, seed=seed)
        return TextTask(name, texts, {"texts": str(source), "limit": limit, "seed": seed})
    if name.startswith("lm-eval:"):
        from inactive_heads.tasks.lm_eval import harness_task  # which makes tasks of this module

        return harness_task(
            name.removeprefix("lm-eval:"),
            data=data,
            shots=shots,
            limit=limit,
            subjects=subjects,
            scoring=scoring,
            seed=seed,
        )
    if name not in ("mmlu", "quiz"):
        raise UserError(
            f"unknown task {name!r}; there are: mmlu, quiz, text-loss, and lm-eval:TASK for those "
            "of lm-evaluation-harness"
        )
    how = scoring or ("letter" if name == "mmlu" else "cloze")
    if how not in ("letter", "cloze"):
        raise UserError(f"scoring must be letter or cloze, not {how!r}")
    n_shots = (5 if name == "mmlu" else 0) if shots is None else shots
    dev, test = _mmlu(data) if name == "mmlu" else _quiz(data)
    test = choose_evenly(test, lambda question: question.subject, subjects, limit, seed)
    items = [_ask(question, dev.get(question.subject, []), n_shots, how) for question in test]
    about = {
        "data": str(data or ("cais/mmlu" if name == "mmlu" else "bundled")),
        "num_fewshot": n_shots,
        "scoring": how,
        "limit": limit,
        "subjects": sorted({question.subject for question in test}),
        "seed": seed,
    }
    return ChoiceTask(name, items, how, n_shots, about)  # type: ignore[arg-type]


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


T = TypeVar("T")


def choose_evenly(
    items: Sequence[T],
    subject_of: Callable[[T], str],
    subjects: Sequence[str] | None,
    limit: int | None,
    seed: int,
) -> list[T]:
    """The items of these subjects, or ``limit`` of them, spread over the subjects by ``seed``.

    Raises:
        UserError: there is no such subject.
    """
    by_subject: dict[str, list[T]] = {}
    for item in items:
        by_subject.setdefault(subject_of(item), []).append(item)
    if subjects is not None:
        for subject in subjects:
            if subject not in by_subject:
                raise UserError(f"unknown subject {subject!r}; there are: {', '.join(by_subject)}")
        by_subject = {subject: by_subject[subject] for subject in subjects}
    if limit is None:
        return [item for group in by_subject.values() for item in group]
    rng = np.random.default_rng(seed)
    shuffled = [[group[i] for i in rng.permutation(len(group))] for group in by_subject.values()]
    # In rounds, one of every subject: any limit is spread as evenly as it can be.
    rounds = [
        group[turn]
        for turn in range(max(map(len, shuffled)))
        for group in shuffled
        if turn < len(group)
    ]
    return rounds[:limit]


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
    """Examples by subject, and the questions to answer."""
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
