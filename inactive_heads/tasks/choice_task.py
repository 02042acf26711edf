"""Multiple-choice questions, answered by the log-probability of what may follow the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import ACCURACY, Metric
from inactive_heads.models.model import Model
from inactive_heads.tasks.base import ChoiceItem, ScoredInput, Scoring
from inactive_heads.tasks.question_tokens import asked_of, decoded, framed


@dataclass(frozen=True)
class ChoiceTask:
    """Questions answered by the log-probability of what may follow the prompt.

    Accuracy is over all questions.

    Attributes:
        name: as results name it.
        items: the questions.
        scoring: "letter": the arg max over " A" to " D". "cloze": the choices' texts, each
            log-probability divided by the text's length in characters. "acc" and "acc_norm": the
            same two judgements, for the choices of a task of lm-evaluation-harness.
        num_fewshot: answered examples in a prompt.
        about: where it comes from and how it is asked; saved with results.
    """

    name: str
    items: Sequence[ChoiceItem]
    scoring: Scoring
    num_fewshot: int
    about: dict[str, Any] = field(default_factory=dict)
    metric: ClassVar[Metric] = ACCURACY

    @property
    def normalized(self) -> bool:
        """Whether log-probabilities are divided by a length."""
        return self.scoring in ("cloze", "acc_norm")

    def __len__(self) -> int:
        return len(self.items)

    def part(self, start: int, stop: int) -> ChoiceTask:
        """The task with the questions from ``start`` to before ``stop``."""
        return replace(self, items=self.items[start:stop])

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """For every question one input for all answers, or one for each; see `Asked.inputs`.

        Raises:
            UserError: as `asked_of`.
        """
        return [asked_of(model, item, self.scoring).inputs for item in self.items]

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """One row per question: id, subject, correct, answer_logprob and choice_logprobs (nats)."""
        rows = []
        for item, parts in zip(self.items, logprobs, strict=True):
            choices = np.array([part.sum() for part in parts])
            if len(parts) == 1:  # all choices' last tokens, after those that they share
                shared, last = np.split(parts[0], [-len(item.continuations)])
                choices = shared.sum() + last
            judged = choices
            if self.normalized:
                own = tuple(len(text.removeprefix(" ")) for text in item.continuations)
                judged = choices / np.array(item.lengths or own)
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
        """Every question's task and subject, as ``mmlu: anatomy``."""
        return [f"{self.name}: {item.subject}" for item in self.items]

    def first_prompt(self, model: Model) -> str:
        """The first prompt as its tokens decode, and the tokens of its answers.

        Raises:
            UserError: as `asked_of`.
        """
        asked = asked_of(model, item := self.items[0], self.scoring)
        chat = "no chat template" if model.chat is None else "the model's chat template"
        shots = f"{self.num_fewshot} shots" if self.num_fewshot != 1 else "1 shot"
        lines = framed(model, f"{self.name}: question {item.id!r}, {shots}, {chat}", asked.tokens)
        for index, answer in enumerate(asked.answers):
            mark = "   <- right" if index == item.answer else ""
            lines.append(f"answer {decoded(model, answer)!r}: tokens {answer}{mark}")
        return "\n".join(lines)
