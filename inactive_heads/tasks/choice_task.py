"""Multiple-choice questions, answered by the log-probabilities of continuations."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import ACCURACY, Metric
from inactive_heads.errors import Notice, UserError
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ChoiceItem, ScoredInput, Scoring
from inactive_heads.tasks.question_tokens import asked_of, decoded, framed


@dataclass(frozen=True)
class ChoiceTask:
    """Multiple-choice questions, answered by the continuation with the highest log-probability.

        item = ih.ChoiceItem("q1", "sums", "1 + 1 =", (" 2", " 3"), answer=0)
        task = ih.ChoiceTask("sums", [item], scoring="cloze", num_fewshot=0)

    Accuracy is over all questions (micro average).

    Attributes:
        name: the task's name in results.
        items: the questions.
        scoring: "letter" compares the log-probabilities of letters (" A" to " D"); "cloze" those
            of the choices' texts, each divided by the text's length in characters. "acc" and
            "acc_norm" are the same without and with the division, for tasks of
            lm-evaluation-harness.
        num_fewshot: the number of answered examples in a prompt; it is only reported.
        about: where the questions come from and how they are asked; saved with results.
    """

    name: str
    items: Sequence[ChoiceItem]
    scoring: Scoring
    num_fewshot: int
    about: dict[str, Any] = field(default_factory=dict)
    metric: ClassVar[Metric] = ACCURACY

    def __post_init__(self) -> None:
        """Check the questions. A Notice says if a right answer is there twice.

        Raises:
            UserError: there are no questions, one is not a `ChoiceItem` or has a single answer or
                one without a length, two have the same id, or the scoring is unknown.
        """
        if isinstance(self.items, ChoiceItem | str) or not isinstance(self.items, Iterable):
            raise UserError(
                f"the task {self.name!r} needs a list of ChoiceItem, not {self.items!r:.60}"
            )
        object.__setattr__(self, "items", list(self.items))
        if self.scoring not in get_args(Scoring):
            raise UserError(
                f"scoring must be one of {', '.join(get_args(Scoring))}, not {self.scoring!r:.60}"
            )
        if not self.items:
            raise UserError(f"the task {self.name!r} has no questions")
        seen = set()
        for item in self.items:
            if not isinstance(item, ChoiceItem):
                raise UserError(f"the task {self.name!r} needs ChoiceItem, not {item!r:.60}")
            if len(item.continuations) < 2:
                raise UserError(f"question {item.id!r} has one answer; there is nothing to choose")
            if item.id in seen:
                raise UserError(f"two questions of the task {self.name!r} have the id {item.id!r}")
            seen.add(item.id)
            if self.normalized and min(self._lengths(item)) < 1:
                raise UserError(
                    f"question {item.id!r} has an answer without characters, by which {self.scoring} "
                    'divides; give scoring="acc"'
                )
        if twice := [item.id for item in self.items if item.right_twice]:
            warnings.warn(
                f"{len(twice)} questions of {self.name} have their right answer twice ({twice[0]!r} "
                "is the first); of equal answers the first is taken, which may be called wrong",
                Notice,
                stacklevel=3,
            )

    @staticmethod
    def _lengths(item: ChoiceItem) -> tuple[int, ...]:
        """What each answer's log-probability is divided by if it is normalized."""
        return item.lengths or tuple(len(text.removeprefix(" ")) for text in item.continuations)

    @property
    def normalized(self) -> bool:
        """Whether log-probabilities are divided by the continuations' lengths."""
        return self.scoring in ("cloze", "acc_norm")

    def __len__(self) -> int:
        return len(self.items)

    def part(self, start: int, stop: int) -> ChoiceTask:
        """The task with a range of its questions.

        Args:
            start: the index of the first question.
            stop: the index after the last question.
        """
        part = copy(self)  # without a second check
        object.__setattr__(part, "items", self.items[start:stop])
        return part

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """The inputs to run.

        Args:
            model: the model, whose tokenizer and chat template are used.

        Returns:
            For each question, one input if its answers differ in their last token only, otherwise
            one for each answer; see `inactive_heads.tasks.question_tokens.Asked`. A warning counts
            the questions whose answers the tokenizer joins with the prompt or cannot tell apart.

        Raises:
            UserError: a question cannot be asked; see
                `inactive_heads.tasks.question_tokens.asked_of`.
        """
        asked = [asked_of(model, item, self.scoring) for item in self.items]
        pairs = list(zip(self.items, asked, strict=True))
        self._notice(
            model,
            [item.id for item, one in pairs if one.joined],
            "joins answers with the prompt: as in lm-evaluation-harness, an answer's tokens are "
            "those after the number of tokens that the prompt has alone",
        )
        self._notice(
            model,
            [item.id for item, one in pairs if one.confused(item.continuations)],
            "gives different answers the same tokens, which are then equally likely",
        )
        return [one.inputs for one in asked]

    def _notice(self, model: Model, ids: Sequence[str], what: str) -> None:
        """Warn of what the tokenizer does in some of the questions, if there are any."""
        if ids:
            warnings.warn(
                f"in {len(ids)} of {len(self)} questions of {self.name!r} ({ids[0]!r} first), the "
                f"tokenizer of {model.name!r} {what}",
                Notice,
                stacklevel=3,
            )

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """The outcome of every question.

        Args:
            logprobs: for each question and input, the log-probabilities of the input's targets, in
                nats.

        Returns:
            One row per question, with the columns id; subject; correct; answer_logprob, that of the
            right answer, in nats; and choice_logprobs, a list of all choices' log-probabilities.
            Both are sums over tokens, not divided by lengths. Of equal choices, the first is taken
            as the answer.
        """
        rows = []
        for item, parts in zip(self.items, logprobs, strict=True):
            choices = np.array([part.sum() for part in parts])
            if len(parts) == 1:  # one input: the tokens that all choices share, then each's last
                shared, last = np.split(parts[0], [-len(item.continuations)])
                choices = shared.sum() + last
            judged = choices
            if self.normalized:
                judged = choices / np.array(self._lengths(item))
            rows.append(
                {
                    "id": item.id,
                    "subject": item.subject,
                    "correct": bool(np.argmax(judged) == item.answer),
                    "answer_logprob": float(choices[item.answer]),
                    "choice_logprobs": [float(choice) for choice in choices],
                }
            )
        return pd.DataFrame(rows)

    def kinds(self) -> list[str]:
        """Each question's task and subject, such as ``mmlu: anatomy``."""
        return [f"{self.name}: {item.subject}" for item in self.items]

    def first_prompt(self, model: Model) -> str:
        """The first question as the model reads it, for display.

        Args:
            model: the model, whose tokenizer and chat template are used.

        Returns:
            The number of shots and tokens, the prompt decoded from its tokens, and each answer's
            tokens.

        Raises:
            UserError: the question cannot be asked; see
                `inactive_heads.tasks.question_tokens.asked_of`.
        """
        asked = asked_of(model, item := self.items[0], self.scoring)
        chat = "no chat template" if model.chat is None else "the model's chat template"
        shots = f"{self.num_fewshot} shots" if self.num_fewshot != 1 else "1 shot"
        lines = framed(model, f"{self.name}: question {item.id!r}, {shots}, {chat}", asked.tokens)
        for index, answer in enumerate(asked.answers):
            mark = "   <- right" if index == item.answer else ""
            lines.append(f"answer {decoded(model, answer)!r}: tokens {answer}{mark}")
        return "\n".join(lines)
