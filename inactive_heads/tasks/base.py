"""What an ablation is judged by: multiple-choice questions, or next-token loss on texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from inactive_heads.analysis.curves.metrics import ACCURACY, LOSS, Metric
from inactive_heads.errors import UserError

Scoring = Literal["letter", "cloze", "acc", "acc_norm"]


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
    metric: ClassVar[Metric] = ACCURACY

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
    metric: ClassVar[Metric] = LOSS


Task = ChoiceTask | TextTask


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
