"""The protocol of tasks: items to run through a model, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd

from inactive_heads.analysis.curves.metrics import Metric
from inactive_heads.errors import UserError
from inactive_heads.models.model import Model

Scoring = Literal["letter", "cloze", "acc", "acc_norm"]
"""How answers are judged; see `ChoiceTask`."""


@dataclass(frozen=True)
class ScoredInput:
    """Tokens to run, and the log-probabilities to read: of ``targets[k]`` after ``positions[k]``.

    Attributes:
        tokens: token ids, from the input's first token on.
        positions: indices into ``tokens``; the logits after each of these tokens are read.
        targets: token ids, one for each position.
    """

    tokens: list[int]
    positions: list[int]
    targets: list[int]


@runtime_checkable
class Task(Protocol):
    """Questions or texts that ablations are evaluated on, such as a `ChoiceTask` or a `TextTask`.

    Attributes:
        name: the task's name in results.
        about: where the items come from and how they are asked; saved with results, in a form that
            JSON can represent.
        metric: the metric that it measures.
    """

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> dict[str, Any]: ...

    @property
    def metric(self) -> Metric: ...

    def __len__(self) -> int:
        """The number of items: questions, or texts."""
        ...

    def part(self, start: int, stop: int) -> Task:
        """The task with a range of its items.

        Args:
            start: the index of the first item.
            stop: the index after the last item.

        Returns:
            A task of the same kind.
        """
        ...

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """The inputs to run.

        Args:
            model: the model, whose tokenizer and chat template are used.

        Returns:
            For each item, one input or one for each answer.

        Raises:
            UserError: an input is longer than the model's context, or has no target.
        """
        ...

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """The outcome of every item.

        Args:
            logprobs: for each item and input, the log-probabilities of the input's targets, in
                nats.

        Returns:
            One row per item, with the columns of `Outcomes.items` except percent_zeroed.
        """
        ...

    def kinds(self) -> list[str]:
        """The kind of text that each item is.

        Returns:
            Each item's data set or subject.
        """
        ...

    def first_prompt(self, model: Model) -> str:
        """The first item as the model reads it, for display.

        Args:
            model: the model, whose tokenizer and chat template are used.

        Returns:
            The text, and facts such as the number of tokens.

        Raises:
            UserError: the model cannot run the item.
        """
        ...


@dataclass(frozen=True)
class ChoiceItem:
    """One question: its context, the continuations to choose from, and the right one.

        ih.ChoiceItem("q1", "sums", "1 + 1 =", (" 2", " 3"), answer=0)

    Attributes:
        id: identifies the question in results.
        subject: the question's subject.
        context: the text before the answer. A `Prompt` is written by the model's chat template if
            the model uses one; any other text is used as it is. A tuple has one context for each
            continuation, for choices that differ in the context (Winogrande).
        continuations: the possible answers, as texts that follow the context.
        answer: the index of the right continuation.
        lengths: each continuation's divisor if log-probabilities are normalized; by default its
            length in characters, without the space at its start.
    """

    id: str
    subject: str
    context: str | tuple[str, ...]
    continuations: tuple[str, ...]
    answer: int
    lengths: tuple[int, ...] = ()

    @property
    def contexts(self) -> tuple[str, ...]:
        """The context before each continuation."""
        several = isinstance(self.context, tuple)
        return self.context if several else (self.context,) * len(self.continuations)  # type: ignore[return-value]


T = TypeVar("T")


def choose_evenly(
    items: Sequence[T],
    subject_of: Callable[[T], str],
    subjects: Sequence[str] | None,
    limit: int | None,
    seed: int,
) -> list[T]:
    """The items of some subjects, or a number of them spread evenly over the subjects.

    Args:
        items: the items to choose from.
        subject_of: returns an item's subject.
        subjects: the subjects to choose from; None for all.
        limit: the number of items to choose at random; None for all.
        seed: the seed of the choice.

    Returns:
        Without a limit, all items subject by subject. With a limit, items in rounds of one per
        subject; fewer than ``limit`` if there are not as many.

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
    # In rounds of one item per subject, so that any limit is spread evenly.
    rounds = [
        group[turn]
        for turn in range(max(map(len, shuffled)))
        for group in shuffled
        if turn < len(group)
    ]
    return rounds[:limit]
