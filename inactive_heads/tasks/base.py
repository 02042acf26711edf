"""What a task is: items to run through a model, and what their log-probabilities say."""

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


@dataclass(frozen=True)
class ScoredInput:
    """Tokens to run, and the log-probabilities to read: of ``targets[k]`` after ``positions[k]``.

    Attributes:
        tokens: token ids, from the input's first token on.
        positions: places in ``tokens``; the logits after that token are read.
        targets: token ids, one for each position.
    """

    tokens: list[int]
    positions: list[int]
    targets: list[int]


@runtime_checkable
class Task(Protocol):
    """Questions or texts that judge an ablation; `ChoiceTask` and `TextTask` are the kinds there are.

    Attributes:
        name: as results name it.
        about: where it comes from and how it is asked; saved with results, as JSON has it.
        metric: what it measures.
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
        """The task with the items from ``start`` to before ``stop``."""
        ...

    def inputs(self, model: Model) -> list[list[ScoredInput]]:
        """The inputs to run, a list for each item.

        Raises:
            UserError: an input is longer than the model's context, or has nothing to read.
        """
        ...

    def outcomes(self, logprobs: Sequence[Sequence[np.ndarray]]) -> pd.DataFrame:
        """One row per item: how it came out, as `Outcomes.items` has it.

        Args:
            logprobs: for every item and input, the log-probabilities of the input's targets in nats.
        """
        ...

    def kinds(self) -> list[str]:
        """The kind of text that each item is: its data set or subject."""
        ...

    def first_prompt(self, model: Model) -> str:
        """The first item as the model reads it, for people."""
        ...


@dataclass(frozen=True)
class ChoiceItem:
    """One question as it is asked: the context, what may follow it, and which is right.

    Attributes:
        id: names the question in results.
        subject: its subject.
        context: the text before the answer. A `Prompt` is written by the model's chat template if
            the model uses one; any other text is asked as it is. A tuple has one context for each
            continuation, for choices that differ in the context (Winogrande).
        continuations: the texts that may follow.
        answer: the index of the right one.
        lengths: what log-probabilities are divided by when they are normalized; the continuations'
            lengths in characters, if not given.
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
    """The items of these subjects, or ``limit`` of them, spread evenly over the subjects.

    Args:
        items: what to choose from.
        subject_of: gives an item's subject.
        subjects: only these; all if None.
        limit: how many items; all if None.
        seed: which of a subject's items are chosen.

    Returns:
        The chosen items: in the order of their subjects without a limit; else in rounds, one item
        of every subject at a time.

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
